//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/bench/measure"
)

// results are the seconds of each job, a value for each round.
type results map[string][]float64

type job func(ctx context.Context, r results) error

func (s *site) jobs() []job {
	return []job{s.list, s.again, s.big, s.many, s.machine, s.guestfish}
}

// take runs a command and notes its time.
func (r results) take(ctx context.Context, name string, c measure.Command) error {
	_, used, err := c.Run(ctx)
	r.note(name, used.Seconds, used.CPU)
	return err
}

func (r results) note(name string, seconds, cpu float64) {
	r[name] = append(r[name], seconds)
	fmt.Fprintf(os.Stderr, "%-24s %8.4f s, %.3f s of processor time\n", name, seconds, cpu)
}

// shell runs a line in a shell, for its pipes.
func (s *site) shell(line string, args ...string) measure.Command {
	return s.command(append([]string{"bash", "-o", "pipefail", "-c", line, "bash"}, args...)...)
}

func (s *site) list(ctx context.Context, r results) error {
	c := s.holdfast("file-restore", "list", snapshot, oneDir, "--driver", "direct")
	if err := errors.Join(measure.DropCaches(), do(ctx, s.holdfast("version"))); err != nil {
		return err
	}
	return errors.Join(r.take(ctx, "list, cold", c), r.take(ctx, "list, warm", c))
}

func (s *site) big(ctx context.Context, r results) error {
	file := s.shell(`"$@" >/dev/null`, s.o.Holdfast, "file-restore", "extract", snapshot, root+"/srv/big", "-", "--driver", "direct")
	image := s.shell(`"$@" >/dev/null`, s.o.Holdfast, "restore", snapshot, "big.img", "-")
	for _, how := range []string{"cold", "warm"} {
		for name, c := range map[string]measure.Command{"big file": file, "big archive": image} {
			if how == "cold" {
				if err := measure.DropCaches(); err != nil {
					return err
				}
			}
			if err := r.take(ctx, name+", "+how, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// many includes what it takes to map and mount, and neither how they are undone.
func (s *site) many(ctx context.Context, r results) error {
	ours := s.shell(`"$@" | cat >/dev/null`, s.o.Holdfast, "file-restore", "extract", snapshot, root+"/srv/many", "-", "--format", "tar", "--driver", "direct")
	mapped := s.shell(`dev=$("$0" map "$1" "$2" | head -n 1 | awk '{print $NF}') && mount -o "ro,noload,loop,offset=$3" "$dev" "$4" && tar -cf - -C "$4/srv/many" . | cat >/dev/null`)
	mapped.Args = append(mapped.Args[:len(mapped.Args)-1], s.o.Holdfast, snapshot, disk, fmt.Sprint(partStart), s.path("mnt"))
	undo := s.shell(`umount "$1" && "$2" unmap "$("$2" map --output-format json | sed -n 's/.*"device": *"\([^"]*\)".*/\1/p' | head -n 1)"`, s.path("mnt"), s.o.Holdfast)
	for _, how := range []string{"cold", "warm"} {
		for name, c := range map[string]measure.Command{"many": ours, "many, mounted": mapped} {
			if how == "cold" {
				if err := measure.DropCaches(); err != nil {
					return err
				}
			}
			err := r.take(ctx, name+", "+how, c)
			if name == "many, mounted" {
				err = errors.Join(err, do(context.WithoutCancel(ctx), undo))
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *site) machine(ctx context.Context, r results) error {
	err := r.take(ctx, "machine, first", s.holdfast("file-restore", "list", snapshot, oneDir, "--driver", "vm"))
	if err == nil {
		err = r.take(ctx, "machine, next", s.holdfast("file-restore", "list", snapshot, oneDir, "--driver", "vm"))
	}
	if err == nil {
		err = r.take(ctx, "machine, some", s.shell(`"$@" | cat >/dev/null`, s.o.Holdfast, "file-restore", "extract", snapshot, someDirs, "-", "--format", "tar", "--driver", "vm"))
	}
	if err == nil {
		err = r.take(ctx, "direct, some", s.shell(`"$@" | cat >/dev/null`, s.o.Holdfast, "file-restore", "extract", snapshot, someDirs, "-", "--format", "tar", "--driver", "direct"))
	}
	return errors.Join(err, do(context.WithoutCancel(ctx), s.holdfast("file-restore", "stop", "all")))
}

// guestfish lists the same directory by other means.
func (s *site) guestfish(ctx context.Context, r results) error {
	kernel := os.Getenv("SUPERMIN_KERNEL")
	if _, err := exec.LookPath("guestfish"); err != nil || kernel == "" {
		return nil //nolint:nilerr // the row is missing
	}
	socket := s.path("nbd.sock")
	server := exec.CommandContext(ctx, s.o.Holdfast, "nbd", "serve", snapshot, disk, "--socket", socket)
	server.Env = append(os.Environ(), s.holdfast().Env...)
	server.Cancel = func() error { return server.Process.Signal(os.Interrupt) }
	if err := server.Start(); err != nil {
		return err
	}
	defer func() {
		_ = server.Process.Signal(os.Interrupt)
		_ = server.Wait()
	}()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		if time.Now().After(deadline) {
			return errors.New("nbd serve does not listen after 30 s")
		}
	}
	c := s.command("guestfish", "--ro", "--format=raw", "-a", "nbd://?socket="+socket, "-i", "ls", strings.TrimPrefix(oneDir, root))
	cache := filepath.Join(s.dir, "guestfs")
	c.Env = append(c.Env, "LIBGUESTFS_BACKEND=direct", "LIBGUESTFS_BACKEND_SETTINGS=force_tcg", "LIBGUESTFS_CACHEDIR="+cache)
	if _, err := os.Stat(cache); err != nil { // its appliance is made with the first call
		if err := errors.Join(os.Mkdir(cache, 0o755), do(ctx, c)); err != nil {
			return err
		}
	}
	return r.take(ctx, "guestfish", c)
}
