package libvirt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/holdfast-backup/holdfast/internal/guest/libvirt/domxml"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/image/qcow2/qcow2target"
	"github.com/holdfast-backup/holdfast/internal/image/target"
	"github.com/holdfast-backup/holdfast/internal/kernel/fileops"
)

// made is what a restore has made so far, to be removed if it fails.
type made struct{ paths []string }

func (m *made) add(path string) { m.paths = append(m.paths, path) }

// remove takes everything away again.
func (m *made) remove() error {
	var errs []error
	for _, p := range m.paths {
		errs = append(errs, os.RemoveAll(p))
	}
	m.paths = nil
	return errors.Join(errs...)
}

// noted makes a note of a path if nothing has the name yet: what is replaced is
// not ours to remove.
func (m *made) noted(path string) (done func()) {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return func() {}
	}
	return func() { m.add(path) }
}

// write makes a small file.
func (m *made) write(path string, text []byte, replace bool) error {
	done := m.noted(path)
	create := fileops.Create
	if replace {
		create = fileops.Replace
	}
	f, err := create(path)
	if err != nil {
		return err
	}
	defer f.Drop()
	if _, err := f.Write(text); err != nil {
		return err
	}
	if err := f.Finish(); err != nil {
		return err
	}
	done()
	return nil
}

// openTarget opens what a disk is restored to. It is noted when it is finished.
func openTarget(p domxml.Place, size int64, replace bool, m *made) (image.Target, error) {
	if p.Block {
		t, err := target.OpenExisting(p.Path, size)
		if err != nil {
			return nil, err // not t: a nil pointer in an interface
		}
		return t, nil
	}
	if err := makeReachable(filepath.Dir(p.Path)); err != nil {
		return nil, err
	}
	done := m.noted(p.Path)
	if p.Format == "raw" {
		t, err := target.Create(p.Path, size, target.Options{Overwrite: replace})
		if err != nil {
			return nil, err
		}
		return noting{t, done}, nil
	}
	create := fileops.Create
	if replace {
		create = fileops.Replace
	}
	f, err := create(p.Path)
	if err != nil {
		return nil, err
	}
	img, err := qcow2target.New(newFile{f}, qcow2target.Options{Size: size})
	if err != nil {
		f.Drop()
		return nil, fmt.Errorf("%s: %w", p.Path, err)
	}
	return noting{&qcow2File{img, f}, done}, nil
}

// noting calls done when the target is finished.
type noting struct {
	image.Target
	done func()
}

func (n noting) Finish() error {
	err := n.Target.Finish()
	if err == nil {
		n.done()
	}
	return err
}

// qcow2File is a qcow2 image that gets its name when it is complete.
type qcow2File struct {
	*qcow2target.Image
	f *fileops.NewFile
}

func (q *qcow2File) Finish() error {
	if err := q.Image.Finish(); err != nil {
		return err
	}
	return q.f.Finish()
}

// newFile drops the file when it is closed, unless it has its name.
type newFile struct{ *fileops.NewFile }

func (n newFile) Close() error {
	n.Drop()
	return nil
}

// StartWriteback leaves it to the system when to write.
func (newFile) StartWriteback() {}
