//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const mib = 1 << 20

// site is where one run takes place.
type site struct {
	o     options
	dir   string
	repos int
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

// noise makes an image of size bytes whose first part is random.
func (s *site) noise(name string, size, random int64) (string, error) {
	f, err := os.Create(s.path(name))
	if err != nil {
		return "", err
	}
	_, err = io.CopyN(f, rand.Reader, random)
	return f.Name(), errors.Join(err, f.Truncate(size), f.Close())
}

// repository makes a new one and returns its path.
func (s *site) repository(ctx context.Context) (string, error) {
	s.repos++
	dir := s.path(fmt.Sprintf("repo%d", s.repos))
	_, err := s.holdfast(ctx, "", "init", "--lazy", dir)
	return dir, err
}

// holdfast runs the program.
func (s *site) holdfast(ctx context.Context, repo string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, s.o.Holdfast, args...)
	cmd.Env = append(os.Environ(), "HOLDFAST_REPOSITORY="+repo, "HOLDFAST_RUN_DIR="+s.path("run"))
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return out, nil
}

// outcome is what matters of a backup's JSON.
type outcome struct {
	Elapsed float64
	Total   struct{ Read, Unchanged int64 }
	seconds float64 // of the process
}

// backup backs up and measures.
func (s *site) backup(ctx context.Context, repo string, args ...string) (o outcome, err error) {
	begin := time.Now()
	out, err := s.holdfast(ctx, repo, append(args, "--output-format", "json")...)
	if err != nil {
		return o, err
	}
	o.seconds = time.Since(begin).Seconds()
	return o, json.Unmarshal(out, &o)
}

// qemu starts a QEMU without an operating system on an image, and returns its
// monitor and how to end it.
func (s *site) qemu(ctx context.Context, image, format string) (monitor string, end func(), err error) {
	monitor = s.path("q")
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
		"-machine", "q35,accel=tcg", "-m", "32M", "-S", "-name", "bench",
		"-blockdev", fmt.Sprintf("driver=%s,node-name=n,discard=unmap,file.driver=file,file.filename=%s,file.discard=unmap", format, image),
		"-device", "virtio-blk-pci,drive=n,id=disk", "-qmp", "unix:"+monitor+",server=on,wait=off")
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	end = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.Remove(monitor)
	}
	for range 300 {
		if c, err := net.Dial("unix", monitor); err == nil {
			return monitor, end, c.Close()
		}
		time.Sleep(100 * time.Millisecond)
	}
	end()
	return "", nil, errors.New("QEMU does not start")
}
