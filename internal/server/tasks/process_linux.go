package tasks

import (
	"errors"
	"fmt"
	"os"

	ps "github.com/holdfast-backup/holdfast/internal/kernel/process"
	"golang.org/x/sys/unix"
)

// process is one of this machine's processes.
type process struct {
	pid   int
	start uint64 // clock ticks since boot
}

func thisProcess() process {
	pid := os.Getpid()
	start, _ := ps.Start(pid) // 0 where /proc is not mounted
	return process{pid, start}
}

// running reports whether a process lives.
func running(p process) bool {
	return ps.Runs(p.pid, p.start)
}

// lockFile waits for a lock on a file and returns how to release it.
func lockFile(path string) (func() error, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return f.Close, nil
}
