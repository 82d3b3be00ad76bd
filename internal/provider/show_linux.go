package provider

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/kernel/fusefile"
	"github.com/holdfast-backup/holdfast/internal/kernel/fusemount"
)

// showFile shows an image as a read-only regular file at path, which does not
// exist. The kernel keeps no pages of it: programs that convert read each byte
// once.
func showFile(path string, img image.Image) (closeFile func(context.Context) error, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	m, err := fusefile.Mount(path, img, fusefile.Options{Name: "holdfast", ReadOnly: true, Cached: true})
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	return func(ctx context.Context) error {
		err := m.Unmount(ctx)
		if errors.Is(err, fusemount.ErrBusy) {
			err = m.Close(ctx)
		}
		if err != nil {
			return err
		}
		return os.Remove(path)
	}, nil
}

// SweepScratch removes what services that were killed left below a directory in
// which each has one named by [ScratchName]: mounts and empty files.
func SweepScratch(ctx context.Context, root string) error {
	list, err := os.ReadDir(root)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range list {
		if e.IsDir() && !alive(e.Name()) {
			err = errors.Join(err, sweep(ctx, filepath.Join(root, e.Name())))
		}
	}
	return err
}

func sweep(ctx context.Context, dir string) error {
	mounts, err := fusemount.List()
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if rel, rerr := filepath.Rel(dir, m.Path); rerr == nil && filepath.IsLocal(rel) {
			err = errors.Join(err, fusemount.Unmount(ctx, m.Path, true))
		}
	}
	if err != nil {
		return err
	}
	return os.RemoveAll(dir)
}
