//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/holdfast-backup/holdfast/internal/appliance"
)

// The kinds of time for the guest.
const (
	none = "none"
	fast = "fast"
	slow = "slow"
)

// span is how much of its disk the guest writes to, in MiB.
const span = 256

// latencies lets the guest write.
func (s *site) latencies(ctx context.Context, r *results) (err error) {
	vm, monitor, err := s.machine(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, vm.Close()) }()
	r.guest = fmt.Sprintf("%s under %s", vm.Hello.Kernel, vm.Accel)
	repo, err := s.repository(ctx)
	if err != nil {
		return err
	}
	if _, err := s.backup(ctx, repo, "guest", "backup", "bench", "--qmp", monitor); err != nil {
		return err
	}
	kinds := []string{none, fast, slow}
	for n := range s.o.Rounds {
		for i := range kinds {
			kind := kinds[(n+i)%len(kinds)]
			w, backups, err := s.write(ctx, vm, monitor, repo, kind)
			if err != nil {
				return fmt.Errorf("%s: %w", kind, err)
			}
			fmt.Fprintf(os.Stderr, "round %d, %s: %+v, %d backups\n", n+1, kind, w, backups)
			r.add(kind, w, backups)
		}
	}
	return nil
}

// machine boots the guest.
func (s *site) machine(ctx context.Context) (*appliance.VM, string, error) {
	const module = "github.com/holdfast-backup/holdfast/"
	for name, pkg := range map[string]string{"agent": "internal/appliance/agent", "writer": "test/guest/writer"} {
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", s.path(name), module+pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, "", fmt.Errorf("%w: %s", err, out)
		}
	}
	kernel, err := appliance.FindKernel(appliance.KernelSearch{})
	if err != nil {
		return nil, "", err
	}
	disk, err := s.noise("disk", 1<<30, 512*mib)
	if err != nil {
		return nil, "", err
	}
	monitor := s.path("m")
	vm, err := appliance.Start(ctx, appliance.Config{
		Kernel: kernel, Init: s.path("agent"), Monitor: monitor, MemoryMB: 256,
		Files:  []appliance.File{{Name: "/bin/writer", From: s.path("writer"), Mode: 0o755}},
		Drives: []appliance.Drive{{Path: disk}},
	})
	return vm, monitor, err
}

// writes are latencies in microseconds.
type writes struct {
	n                         int
	mean, p50, p95, p99, most float64
}

// write measures one time of a kind.
func (s *site) write(ctx context.Context, vm *appliance.VM, monitor, repo, kind string) (w writes, backups int, err error) {
	during, stop := context.WithCancel(ctx)
	defer stop()
	begun, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- s.keepBusy(during, monitor, repo, kind, begun, &backups) }()
	select {
	case <-begun:
	case err := <-done:
		return w, 0, err
	}
	out, err := vm.Output(ctx, "/bin/writer", "latency", strconv.Itoa(s.o.seconds), "/dev/vda", strconv.Itoa(span))
	stop()
	if err = errors.Join(err, <-done); err != nil {
		return w, 0, err
	}
	_, err = fmt.Sscan(string(out), &w.n, &w.mean, &w.p50, &w.p95, &w.p99, &w.most)
	return w, backups, err
}

// keepBusy backs up until ctx ends. begun is closed when that has an effect.
func (s *site) keepBusy(ctx context.Context, monitor, repo, kind string, begun chan struct{}, backups *int) error {
	if kind == none {
		close(begun)
		return nil
	}
	time.AfterFunc(time.Second, func() { close(begun) })
	args := []string{"guest", "backup", "bench", "--qmp", monitor}
	if kind == slow {
		args = append(args, "--bitmap-mode", "none", "--rate", "2M")
		args[2] = "slow" // a group of its own keeps the bitmaps of the other
	}
	for ctx.Err() == nil {
		_, err := s.backup(ctx, repo, args...)
		if ctx.Err() != nil {
			return nil // it was to end
		}
		if err != nil {
			return err
		}
		*backups++
		select {
		case <-time.After(time.Second): // snapshots have seconds
		case <-ctx.Done():
		}
	}
	return nil
}
