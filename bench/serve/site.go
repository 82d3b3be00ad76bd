//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/holdfast-backup/holdfast/bench/program"
)

// site is the directory with the repository and the raw images.
type site struct {
	holdfast string
	dir      string
	disk     string // raw image of the first day
	noise    string // raw image of noiseSize
}

const (
	noiseSize = 64 << 20
	emptySize = 1 << 40
)

func newSite(ctx context.Context, o program.Options) (*site, error) {
	disk := filepath.Join(o.Work, "day0.img")
	if _, err := os.Stat(disk); err != nil {
		return nil, fmt.Errorf("%w: make bench makes the image", err)
	}
	dir := filepath.Join(o.Work, "serve")
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return nil, err
	}
	s := &site{o.Holdfast, dir, disk, filepath.Join(dir, "noise.img")}
	if err := s.fill(ctx); err != nil {
		return nil, errors.Join(err, s.remove())
	}
	return s, nil
}

func (s *site) fill(ctx context.Context) error {
	f, err := os.Create(s.noise)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, rand.NewChaCha8([32]byte{64}), noiseSize)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	huge := filepath.Join(s.dir, "huge.img")
	if err := errors.Join(os.WriteFile(huge, []byte("the first sector"), 0o644), os.Truncate(huge, emptySize)); err != nil {
		return err
	}
	if err := s.run(ctx, "init", s.repo()); err != nil {
		return err
	}
	return s.run(ctx, "backup", "disk.img:"+s.disk, "noise.img:"+s.noise, "huge.img:"+huge, "--backup-type", "vm", "--backup-id", "bench")
}

func (s *site) repo() string                 { return filepath.Join(s.dir, "repo") }
func (s *site) socket(name string) string    { return filepath.Join(s.dir, name+".sock") }
func (s *site) uri(name string) string       { return "nbd+unix:///?socket=" + s.socket(name) }
func (s *site) remove() error                { return os.RemoveAll(s.dir) }
func (s *site) args(args ...string) []string { return append(args, "--repository", s.repo()) }

// run runs holdfast.
func (s *site) run(ctx context.Context, args ...string) error {
	_, err := output(ctx, s.holdfast, s.args(args...)...)
	return err
}

// output runs a program to its end.
func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}
