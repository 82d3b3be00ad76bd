package mapping

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/kernel/fusefile"
	"github.com/holdfast-backup/holdfast/internal/kernel/holders"
)

// filed is mode file.
type filed struct {
	file *fusefile.File
	path string
	dev  image.Device // nil: read-only
}

func (m *Mapping) attachFile() (backend, error) {
	path := m.spec.Device
	if path == "" {
		path = filepath.Join(m.dir, m.rec.key+".img")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	st, err := os.Lstat(path)
	switch {
	case err == nil && (!st.Mode().IsRegular() || st.Size() != 0):
		return nil, fmt.Errorf("%s exists and is not an empty file: an image would hide it", path)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	m.rec.Path, m.rec.MadePath = path, err != nil
	if err := m.note("file"); err != nil {
		return nil, err
	}
	if m.rec.MadePath {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			m.rec.MadePath = false
			return nil, err
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
	b := &filed{path: path}
	if !m.rec.ReadOnly {
		b.dev, _ = m.spec.Image.(image.Device)
	}
	b.file, err = fusefile.Mount(path, m.spec.Image, fusefile.Options{Name: m.rec.Name, ReadOnly: m.rec.ReadOnly, Cached: true, Log: m.spec.Log})
	if err != nil {
		return nil, err
	}
	m.rec.FUSE = b.file.Device()
	return b, m.note("mounted")
}

// holders asks the kernel for the users of the file: unmounting is what tells
// for sure, in end.
func (b *filed) holders() ([]holders.Holder, error) {
	return holders.OfFile(b.path, os.Getpid())
}

func (b *filed) counters() Counters { return fileCounters(b.file) }

func (b *filed) done() <-chan struct{} { return b.file.Done() }

func (*filed) err() error { return nil } // umount by hand is a way to end it

func (b *filed) end(ctx context.Context, force bool) error {
	if force {
		return b.file.Close(ctx)
	}
	if err := b.file.Unmount(ctx); err != nil {
		return err
	}
	if b.dev != nil {
		return b.dev.Flush()
	}
	return nil
}
