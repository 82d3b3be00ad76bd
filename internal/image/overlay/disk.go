package overlay

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/kernel/fileops"
)

// file is what an overlay needs of an open file.
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Truncate(size int64) error
	// Sync makes content and length durable.
	Sync() error
	// Lock keeps others from locking until the file is closed.
	Lock() error
	// Punch makes a range read as zeros and releases its space.
	Punch(off, n int64) error
	// Extent is the extent at off of the first size bytes.
	Extent(off, size int64) (image.Extent, error)
}

// disk is what it needs of directories. The tests have one that loses its
// power.
type disk interface {
	Open(path string, write bool) (file, error)
	// Create makes a file under a name near to path.
	Create(path string) (f file, temp string, err error)
	// Claim gives it its name, which must be free.
	Claim(temp, path string) error
	Remove(path string) error
	// SyncDir makes the entries of path's directory durable.
	SyncDir(path string) error
}

// readFull reads p whole; a file that ends before is damage.
func readFull(f io.ReaderAt, p []byte, off int64) error {
	n, err := f.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: the file ends at %d", ErrFormat, off+int64(n))
	}
	return err
}

// osDisk is the system's.
type osDisk struct{}

// osFile is a file of the system.
type osFile struct{ *os.File }

func (osDisk) Open(path string, write bool) (file, error) {
	info, err := os.Stat(path) // opening a pipe would wait
	if err != nil {
		return nil, cause(err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: it is not a regular file", ErrFormat)
	}
	flag := os.O_RDONLY
	if write {
		flag = os.O_RDWR
	}
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		return nil, cause(err)
	}
	return osFile{f}, nil
}

func (osDisk) Create(path string) (file, string, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, "", fmt.Errorf("%w: choose another name or remove it", fs.ErrExist)
	}
	base := filepath.Base(path)
	f, err := os.CreateTemp(filepath.Dir(path), "."+base[:min(len(base), 100)]+".*.new") // mode 0600
	if err != nil {
		return nil, "", cause(err)
	}
	if err := fileops.Sparse(f); err != nil {
		return nil, "", errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return osFile{f}, f.Name(), nil
}

func (osDisk) Claim(temp, path string) error { return cause(fileops.RenameNew(temp, path)) }

func (osDisk) Remove(path string) error { return cause(os.Remove(path)) }

func (osDisk) SyncDir(path string) error { return cause(fileops.SyncDir(filepath.Dir(path))) }

func (f osFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	return n, cause(err)
}

func (f osFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	return n, cause(err)
}

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, cause(err)
	}
	return info.Size(), nil
}

func (f osFile) Extent(off, size int64) (image.Extent, error) {
	return image.FileExtent(f.File, off, size)
}

func (f osFile) Sync() error              { return cause(dataSync(f.File)) }
func (f osFile) Lock() error              { return cause(lock(f.File)) }
func (f osFile) Punch(off, n int64) error { return fileops.Punch(f.File, off, n) }

// cause takes the path away, which is named once, by the caller.
func cause(err error) error {
	if pe, ok := err.(*fs.PathError); ok { //nolint:errorlint // only the outermost names the path
		return pe.Err
	}
	return err
}
