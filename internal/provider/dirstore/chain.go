package dirstore

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"

	format "github.com/holdfast-backup/holdfast/internal/format/qcow2"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/image/qcow2"
	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// file is a file of the storage as one of a chain.
type file struct {
	vfs.File
	size int64
	path string
}

func (f *file) Size() int64  { return f.size }
func (f *file) Path() string { return f.path }
func (*file) Writer() bool   { return false }

// ExtentAt is one extent: what is written here has no holes in it.
func (f *file) ExtentAt(off int64) (image.Extent, error) {
	return image.Extent{Offset: off, Length: f.size - off, Kind: image.Data}, nil
}

func (s *Store) root() qcow2.Root {
	return qcow2.Root{Dir: s.dir, Open: func(name string) (qcow2.File, error) {
		f, err := s.fs.Open(name)
		if err != nil {
			return nil, err
		}
		size, err := f.Size()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return &file{f, size, filepath.Join(s.dir, name)}, nil
	}}
}

// openDisk opens a disk with its chain. Errors tell damage from trouble.
func (s *Store) openDisk(a provider.Archive, device string) (*qcow2.Image, error) {
	name, err := diskFile(device)
	if err != nil {
		return nil, err
	}
	img, err := qcow2.OpenIn(s.root(), path.Join(dirOf(a), name))
	if err == nil {
		return img, nil
	}
	what := fmt.Sprintf("disk %s of backup %s", device, a.Name)
	switch {
	case errors.Is(err, format.ErrFormat), errors.Is(err, format.ErrUnsupported), errors.Is(err, qcow2.ErrNotAllowed),
		errors.Is(err, fs.ErrNotExist), errors.Is(err, vfs.ErrNotRegular):
		return nil, &repo.CorruptError{What: what, Err: err}
	}
	return nil, fmt.Errorf("%s: %w", what, err)
}

// headBytes is how much of an image is read for its header alone. QEMU puts the
// name of the backing file into the first KiB.
const headBytes = 4 << 10

// header reads the header of a disk.
func (s *Store) header(a provider.Archive, device string) (format.Header, error) {
	name, err := diskFile(device)
	if err != nil {
		return format.Header{}, err
	}
	f, err := s.fs.Open(path.Join(dirOf(a), name))
	if err != nil {
		return format.Header{}, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return format.Header{}, err
	}
	b := make([]byte, min(size, headBytes))
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return format.Header{}, err
	}
	h, err := format.Parse(b)
	if err != nil {
		return h, &repo.CorruptError{What: fmt.Sprintf("disk %s of backup %s", device, a.Name), Err: err}
	}
	return h, nil
}

// parent returns the archive that the backing file of a disk is in.
func (s *Store) parent(a provider.Archive, h *format.Header) (provider.Archive, bool) {
	name := h.BackingFile
	switch {
	case name == "":
		return provider.Archive{}, false
	case path.IsAbs(name):
		rel, err := filepath.Rel(s.dir, path.Clean(name))
		if err != nil {
			return provider.Archive{}, false
		}
		name = filepath.ToSlash(rel)
	default:
		name = path.Join(dirOf(a), name)
	}
	p, err := s.Parse(path.Dir(name))
	return p, err == nil
}

// listedParent names the newest archive that is listed among those that the disks
// of an archive build on; "" where there is none or that cannot be told.
func (s *Store) listedParent(a provider.Archive) string {
	for range qcow2.MaxRooted {
		f := &family{on: map[provider.Archive][]provider.Archive{}}
		if err := s.look(f, a); err != nil || len(f.on[a]) == 0 {
			return ""
		}
		a = slices.MaxFunc(f.on[a], func(a, b provider.Archive) int { return int(a.Start - b.Start) })
		switch removed, err := s.isRemoved(a); {
		case err != nil:
			return ""
		case !removed:
			return a.Name
		}
	}
	return ""
}
