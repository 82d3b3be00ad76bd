// Command holdfast backs up disk images and gets them back: arguments in, exit
// code out. Everything else is in internal/cli.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/holdfast-backup/holdfast/internal/cli"
)

// version is set by the build: -ldflags "-X main.version=1.2.3".
var version string

func main() { os.Exit(run()) }

func run() int {
	tuneMemory()
	if code, is := cli.Inside(os.Args); is {
		return code
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel(cli.ErrInterrupted)
		signal.Stop(signals) // the next one ends the process at once
	}()
	return cli.Main(ctx, cli.System(programVersion()), os.Args[1:])
}

// The large buffers are outside the Go heap, so the heap is small and may grow
// to several times what is live before it is collected. The limit keeps peak
// memory where it is promised to stay.
const (
	gcPercent  = 400
	heapTarget = 64 << 20 // bytes
)

func tuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(heapTarget)
	}
}

// programVersion is the one of the build, or what the Go tool knows.
func programVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v, revision, dirty := info.Main.Version, "", ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value
		case "vcs.modified":
			if s.Value == "true" {
				dirty = "+dirty"
			}
		}
	}
	if v == "" || v == "(devel)" {
		v = "devel"
		if len(revision) >= 12 {
			v += "-" + revision[:12] + dirty
		}
	}
	return v
}
