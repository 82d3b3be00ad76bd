//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// The inputs in the work directory.
const (
	day0File   = "day0.img"
	day1File   = "day1.img"
	mapFile    = "changed.json" // extents that differ between the two days
	sparseFile = "sparse.img"
	smallFile  = "small.img" // for the server's benchmark
)

// blockSize is that of the image's file system; in-place edits go by it.
const (
	blockSize     = 4096
	blockSizeText = "4096"
)

func generate(ctx context.Context, o options) error {
	switch o.generate {
	case "images":
		s := fullScale
		if o.quick {
			s = quickScale
		}
		return makeImages(ctx, o.Work, s)
	case "bucket":
		return makeImages(ctx, o.Work, bucketScale)
	case "sparse":
		return makeSparse(filepath.Join(o.Work, sparseFile), o.sparseData*mib)
	case "small":
		return makeSmall(ctx, o.Work)
	case "snapshots":
		return fillSnapshots(o.Work, o.snapshots)
	}
	return fmt.Errorf("-generate %q: images, bucket, sparse, small or snapshots", o.generate)
}

// makeImages makes both days' images and their changed map, unless they are
// there; the map comes last and stands for all three.
func makeImages(ctx context.Context, work string, s scale) error {
	path := func(name string) string { return filepath.Join(work, name) }
	if _, err := os.Stat(path(mapFile)); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(work, 0o755); err != nil {
		return err
	}
	tree := path("stage")
	defer func() { _ = os.RemoveAll(tree) }()
	fmt.Println("making the first day's image")
	if err := errors.Join(os.RemoveAll(tree), os.RemoveAll(path(day0File))); err != nil {
		return err
	}
	if err := stage(tree, s); err != nil {
		return err
	}
	if err := makeFileSystem(ctx, path(day0File), tree, s.image); err != nil {
		return err
	}
	fmt.Println("making the second day's image")
	if err := helper(ctx, "cp", "--sparse=always", path(day0File), path(day1File)); err != nil {
		return err
	}
	if err := changeDay(ctx, path(day1File), tree, s); err != nil {
		return err
	}
	return writeChangedMap(path(mapFile), path(day0File), path(day1File))
}

// makeSmall makes the first day's image on a quarter of its scale.
func makeSmall(ctx context.Context, work string) error {
	tree := filepath.Join(work, "stage")
	defer func() { _ = os.RemoveAll(tree) }()
	image := filepath.Join(work, smallFile)
	if err := errors.Join(os.MkdirAll(work, 0o755), os.RemoveAll(tree), os.RemoveAll(image)); err != nil {
		return err
	}
	if err := stage(tree, smallScale); err != nil {
		return err
	}
	return makeFileSystem(ctx, image, tree, smallScale.image)
}

func makeFileSystem(ctx context.Context, image, tree string, size int64) error {
	return helper(ctx, "mkfs.ext4", "-q", "-F", "-b", blockSizeText, "-d", tree, "-L", "bench",
		"-U", "8f0c1a52-3e51-4c65-9d04-6d2f5f1d7b10",
		"-E", "hash_seed=2d1b6a1c-54f0-4d5a-8a1e-0f6f1f5b7c22",
		image, fmt.Sprintf("%dk", size>>10))
}

// helper runs a program outside any measurement, with the file systems' clock
// standing still.
func helper(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), fmt.Sprintf("E2FSPROGS_FAKE_TIME=%d", epoch.Unix()), "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, tail(out, 600))
	}
	return nil
}

func tail(b []byte, n int) string {
	return string(b[max(0, len(b)-n):])
}
