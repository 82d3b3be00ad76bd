package provider

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/kernel/fusefile"
	"github.com/holdfast-backup/holdfast/internal/kernel/fusemount"
	"golang.org/x/sys/unix"
)

// showFile shows an image as a read-only regular file at path, which does not
// exist. The kernel reads ahead of programs that read it in a row.
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
		if below(dir, m.Path) {
			err = errors.Join(err, fusemount.Unmount(ctx, m.Path, true))
		}
	}
	others, merr := mountPoints() // of storages that mount something else
	err = errors.Join(err, merr)
	for _, path := range slices.Backward(others) {
		if below(dir, path) {
			err = errors.Join(err, unix.Unmount(path, unix.MNT_DETACH))
		}
	}
	if err != nil {
		return err // what is still mounted there must not be removed
	}
	return os.RemoveAll(dir)
}

func below(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != "." && filepath.IsLocal(rel)
}

// mountPoints lists all mount points, those that are on others behind them.
func mountPoints() (list []string, err error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for line := range strings.Lines(string(b)) {
		if fields := strings.Fields(line); len(fields) > 4 {
			list = append(list, unescape.Replace(fields[4]))
		}
	}
	return list, nil
}
