//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// speeds measures what needs no guest inside.
func (s *site) speeds(ctx context.Context, r *results) error {
	if err := s.unchanged(ctx, r); err != nil {
		return err
	}
	return s.streamed(ctx, r)
}

// unchanged backs up 100 GiB of which nothing changed.
func (s *site) unchanged(ctx context.Context, r *results) error {
	image := s.path("large.qcow2")
	if out, err := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", image, "100G").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	for gib := range 50 { // something here and there
		c := fmt.Sprintf("write -q -P %d %dG 8M", gib+1, 2*gib)
		if out, err := exec.CommandContext(ctx, "qemu-io", "-c", c, image).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	monitor, end, err := s.qemu(ctx, image, "qcow2")
	if err != nil {
		return err
	}
	defer end()
	repo, err := s.repository(ctx)
	if err != nil {
		return err
	}
	for n := range s.o.Rounds + 1 {
		o, err := s.backup(ctx, repo, "guest", "backup", "--qmp", monitor, "--disk", "drive-disk")
		if err != nil {
			return err
		}
		if n == 0 {
			r.first = append(r.first, o.seconds)
		} else {
			r.unchanged = append(r.unchanged, o.seconds)
			r.read = max(r.read, o.Total.Read)
		}
		time.Sleep(time.Second) // snapshots have seconds
	}
	return errors.Join(os.RemoveAll(repo), os.Remove(image))
}

// streamed backs up noise, through QEMU and from the file.
func (s *site) streamed(ctx context.Context, r *results) error {
	const size = 2 << 30
	image, err := s.noise("noise", size, size)
	if err != nil {
		return err
	}
	for range s.o.Rounds {
		for _, way := range []string{"guest", "file"} {
			o, err := s.once(ctx, image, way)
			if err != nil {
				return err
			}
			rate := float64(size) / mib / o.seconds
			if way == "guest" {
				r.guestRate = append(r.guestRate, rate)
			} else {
				r.fileRate = append(r.fileRate, rate)
			}
		}
	}
	return nil
}

func (s *site) once(ctx context.Context, image, way string) (o outcome, err error) {
	repo, err := s.repository(ctx)
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(repo)) }()
	if way == "file" {
		return s.backup(ctx, repo, "backup", "disk.img:"+image)
	}
	monitor, end, err := s.qemu(ctx, image, "raw")
	if err != nil {
		return o, err
	}
	defer end()
	return s.backup(ctx, repo, "guest", "backup", "--qmp", monitor)
}
