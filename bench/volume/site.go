//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-backup/holdfast/bench/measure"
)

const (
	mib       = 1 << 20
	imageSize = 2048 * mib
	quarter   = imageSize / 4
	room      = 8 * mib // of a volume, for header and alignment
)

const (
	first  = "vm/bench/2026-01-01T00:00:00Z"
	second = "vm/bench/2026-01-02T00:00:00Z"
)

// way is one kind of target.
type way struct {
	name, path string
	args       []string // of the restore, behind the archive
}

// site is where one run takes place.
type site struct {
	dir, holdfast string
	loops         []string
	ways          []way
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

func (s *site) run(ctx context.Context, args ...string) ([]byte, measure.Cost, error) {
	return measure.Command{
		Args: args, Dir: s.dir,
		Env: []string{"HOLDFAST_REPOSITORY=" + s.path("repo"), "HOME=" + s.dir},
	}.Run(ctx)
}

// stage makes the snapshots and the targets.
func (s *site) stage(ctx context.Context) error {
	if _, _, err := s.run(ctx, s.holdfast, "init", "--lazy", s.path("repo")); err != nil {
		return err
	}
	img, err := os.Create(s.path("image"))
	if err != nil {
		return err
	}
	r := rand.NewChaCha8([32]byte{1})
	_, err = io.CopyN(img, r, quarter)
	if err == nil {
		_, err = io.CopyN(io.NewOffsetWriter(img, 2*quarter), &words{rand.New(r)}, quarter)
	}
	if err = errors.Join(err, img.Truncate(imageSize)); err == nil {
		err = s.backup(ctx, first)
	}
	if err == nil {
		err = changeDay(img, rand.New(r))
	}
	if err = errors.Join(err, img.Close()); err == nil {
		err = s.backup(ctx, second)
	}
	if err != nil {
		return err
	}
	return s.targets(ctx)
}

func (s *site) backup(ctx context.Context, snapshot string) error {
	_, _, err := s.run(ctx, s.holdfast, "backup", "disk.img:image", "--backup-type", "vm", "--backup-id", "bench", "--backup-time", filepath.Base(snapshot))
	return err
}

// changeDay is what a day does to the disk.
func changeDay(img *os.File, r *rand.Rand) error {
	var buf [4096]byte
	for range 800 {
		for i := range buf {
			buf[i] = byte(r.Uint32())
		}
		if _, err := img.WriteAt(buf[:], r.Int64N(quarter/int64(len(buf)))*int64(len(buf))); err != nil {
			return err
		}
	}
	_, err := io.CopyN(io.NewOffsetWriter(img, 3*quarter+100*mib), &words{r}, 64*mib)
	return err
}

// words compresses as text does.
type words struct{ *rand.Rand }

func (w *words) Read(p []byte) (int, error) {
	for i := 0; i < len(p); i += 8 {
		binary.LittleEndian.PutUint64(p[i:], uint64(w.Uint32()%(1<<14))|0x2020_2020_2020<<16)
	}
	return len(p), nil
}

func (s *site) targets(ctx context.Context) error {
	for _, name := range []string{"file", "inside", "device", "volume", "aligned"} {
		size := int64(imageSize + room)
		if name == "file" {
			size = imageSize
		}
		w := way{name: name, path: s.path(name)}
		if err := errors.Join(os.WriteFile(w.path, nil, 0o600), os.Truncate(w.path, size)); err != nil {
			return err
		}
		if name != "file" && name != "inside" {
			out, _, err := s.run(ctx, "losetup", "--find", "--show", w.path)
			if err != nil {
				return err
			}
			w.path = string(bytes.TrimSpace(out))
			s.loops = append(s.loops, w.path)
		}
		switch name {
		case "volume", "inside":
			w.args = []string{"--volume", w.path, "--no-map"}
		case "aligned":
			w.args = []string{"--volume", w.path, "--no-map", "--aligned"}
		default:
			w.args = []string{w.path, "--in-place"}
		}
		s.ways = append(s.ways, w)
	}
	return nil
}

func (s *site) restore(ctx context.Context, w way, snapshot string) (measure.Cost, error) {
	_, cost, err := s.run(ctx, append([]string{s.holdfast, "restore", snapshot, "disk.img"}, w.args...)...)
	return cost, err
}

// round measures each way once.
func (s *site) round(ctx context.Context, round int, r *results) error {
	for _, w := range s.ways {
		if _, err := s.restore(ctx, w, first); err != nil {
			return err
		}
	}
	for i := range s.ways {
		w := s.ways[(i+round)%len(s.ways)]
		cost, err := s.restore(ctx, w, second)
		if err != nil {
			return err
		}
		r.add(w.name, cost)
	}
	for _, w := range s.ways {
		if !strings.Contains(strings.Join(w.args, " "), "--volume") {
			continue
		}
		digest, err := s.digest(ctx, w.path)
		if err != nil {
			return err
		}
		_, cost, err := s.run(ctx, s.holdfast, "volume", "ensure", w.path, "--digest", digest)
		if err != nil {
			return err
		}
		r.add("ensure", cost)
	}
	return nil
}

func (s *site) digest(ctx context.Context, device string) (string, error) {
	out, _, err := s.run(ctx, s.holdfast, "volume", "header", device, "--output-format", "json")
	if err != nil {
		return "", err
	}
	var h struct {
		Digest string `json:"digest"`
	}
	return h.Digest, json.Unmarshal(out, &h)
}

func (s *site) close() error {
	var errs []error
	for _, l := range s.loops {
		_, _, err := s.run(context.Background(), "losetup", "--detach", l)
		errs = append(errs, err)
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}
