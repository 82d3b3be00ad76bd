package target

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/holdfast-backup/holdfast/internal/kernel/fileops"
)

// PartSuffix ends the name of a file whose restore is not finished.
const PartSuffix = ".holdfast-part"

// Create makes a new sparse file of size bytes that appears at path when it is
// finished. Something of that name that is there already is an error wrapping
// [fs.ErrExist], unless it is a regular file and may be overwritten.
func Create(path string, size int64, opts Options) (*File, error) {
	if size < 0 {
		return nil, fmt.Errorf("%s: an image of %d bytes cannot be", path, size)
	}
	if err := mayCreate(path, opts); err != nil {
		return nil, err
	}
	dir, base := filepath.Split(path)
	if len(base) > 100 {
		base = base[:100] // with the random part and the suffix it stays a legal name
	}
	if dir == "" {
		dir = "."
	}
	f, err := os.CreateTemp(dir, "."+base+".*"+PartSuffix) // mode 0600
	if err != nil {
		return nil, createError(path, dir, err)
	}
	t := &File{f: f, direct: openDirect(f, 0), path: path, size: size, fresh: &fresh{temp: f.Name(), opts: opts}}
	err = fileops.Sparse(f)
	if err == nil {
		err = f.Truncate(size)
	}
	if err != nil {
		_ = t.Close()
		return nil, t.failed(fmt.Sprintf("make a file of %d bytes at", size), -1, err)
	}
	return t, nil
}

// mayCreate looks at what is at path now. What comes later is seen by Finish.
func mayCreate(path string, opts Options) error {
	if base := filepath.Base(path); path == "" || base == "." || base == ".." || os.IsPathSeparator(path[len(path)-1]) {
		return fmt.Errorf("%q is no file name to restore to", path)
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return createError(path, filepath.Dir(path), err)
	}
	mode := info.Mode()
	switch {
	case mode.IsDir():
		return fmt.Errorf("%s is a directory: name the file to restore to (%w)", path, fs.ErrExist)
	case mode&fs.ModeDevice != 0 && mode&fs.ModeCharDevice == 0:
		return fmt.Errorf("%s is a block device: restore onto it in place (%w)", path, fs.ErrExist)
	case mode&fs.ModeSymlink != 0:
		return fmt.Errorf("%s is a symbolic link: name the file itself (%w)", path, fs.ErrExist)
	case !mode.IsRegular():
		return fmt.Errorf("%s is not a regular file: name another one to restore to (%w)", path, fs.ErrExist)
	case !opts.Overwrite:
		return existsError(path)
	}
	return nil
}

func existsError(path string) error {
	return fmt.Errorf("%s exists and is left alone (%w): name another file, overwrite it, or restore in place", path, fs.ErrExist)
}

func createError(path, dir string, err error) error {
	cause := err
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		cause = pe.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("cannot restore to %s: there is no directory %s (%w)", path, filepath.Clean(dir), cause)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("cannot restore to %s: no permission to write in directory %s (%w)", path, filepath.Clean(dir), cause)
	}
	return fmt.Errorf("cannot restore to %s: %w", path, cause)
}

// finishFresh makes the content durable, then the mode, the name and the
// directory, in that order.
func (f *File) finishFresh() error {
	perm := f.fresh.opts.Perm
	if perm == 0 {
		perm = 0o600
	}
	if err := f.f.Chmod(perm.Perm()); err != nil {
		return f.failed("set the mode of", -1, err)
	}
	if err := f.f.Sync(); err != nil {
		return f.failed("sync", -1, err)
	}
	f.closed = true // some systems do not rename an open file
	if err := f.closeBoth(); err != nil {
		return f.failed("close", -1, err)
	}
	if err := f.rename(); err != nil {
		return err
	}
	f.done = true // it has its name: Close leaves it
	if err := fileops.SyncDir(filepath.Dir(f.path)); err != nil {
		return fmt.Errorf("sync the directory of %s: %w", f.path, err)
	}
	return nil
}

func (f *File) rename() error {
	var err error
	if f.fresh.opts.Overwrite {
		err = os.Rename(f.fresh.temp, f.path)
	} else {
		err = fileops.RenameNew(f.fresh.temp, f.path)
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return existsError(f.path)
	case err != nil:
		return fmt.Errorf("give %s its name: %w", f.path, err)
	}
	return nil
}
