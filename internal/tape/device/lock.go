package device

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/tape/drivelock"
)

// locks are those that are held while a drive is used.
type locks []*drivelock.Lock

// unlock gives them back.
func (l locks) unlock() error {
	var errs []error
	for _, one := range l {
		errs = append(errs, one.Unlock())
	}
	return errors.Join(errs...)
}

// hold locks the drive at a path: that of a device, of a unit that is none, or of a
// directory.
func (o *Opener) hold(ctx context.Context, path string) (locks, error) {
	node, err := resolve(path, scsi.TypeTape)
	if err != nil {
		return nil, err
	}
	return o.lock(ctx, path, node)
}

// lock locks the drive that is at a node: by the name that it was given, as PBS does
// it, then by the node itself. All names of a drive meet there, and nobody who
// holds the lock of the node waits for another.
func (o *Opener) lock(ctx context.Context, name, node string) (held locks, err error) {
	if o.Locks == "" {
		return nil, nil
	}
	if node, err = theOnly(node); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Locks, 0o755); err != nil {
		return nil, err
	}
	names := []string{name}
	if node != name {
		names = append(names, node)
	}
	for _, n := range names {
		l, err := drivelock.Take(ctx, drivelock.Path(o.Locks, n))
		if err != nil {
			return nil, errors.Join(err, held.unlock())
		}
		held = append(held, l)
	}
	return held, nil
}

// theOnly is the one path of what may have several. A unit of a virtual library need
// not be there as a file, its directory is.
func theOnly(node string) (string, error) {
	path, err := filepath.EvalSymlinks(node)
	if errors.Is(err, fs.ErrNotExist) {
		var dir string
		dir, err = filepath.EvalSymlinks(filepath.Dir(node))
		path = filepath.Join(dir, filepath.Base(node))
	}
	if err != nil {
		return "", err
	}
	return filepath.Abs(path)
}
