package qemu

import (
	"os"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd/nbdclient"
)

// filtered is a disk behind a copy-before-write filter.
//
// What reads as zeros is not asked from the filter: QEMU 7.2 answers with what
// the guest's disk has now, and a question next to a read of the same range, or
// about a qcow2 disk with metadata allocated in advance, makes QEMU abort, with
// the guest. It is asked from the guest's disk. If that says zero, and then the
// scratch file has a hole there, the guest has not overwritten anything else
// there since the point: its old content would be in the scratch file.
//
// Nothing is fetched ahead, because the filter refuses such requests.
type filtered struct {
	access  *nbdclient.Image // as the disk was
	bitmap  image.Extenter   // what changed; nil: all may have
	current *nbdclient.Image // as the disk is
	scratch *os.File
	trim    func(off, n int64)
}

var (
	_ image.Image    = (*filtered)(nil)
	_ image.Extenter = (*filtered)(nil)
	_ image.Consumer = (*filtered)(nil)
)

func (f *filtered) Size() int64 { return f.access.Size() }

func (f *filtered) ReadAt(p []byte, off int64) (int, error) { return f.access.ReadAt(p, off) }

// ExtentAt is Zero only where that was so at the point.
func (f *filtered) ExtentAt(off int64) (image.Extent, error) {
	limit := f.Size() - off
	if f.bitmap != nil {
		e, err := f.bitmap.ExtentAt(off)
		if err != nil || e.Kind == image.Unchanged {
			return e, err
		}
		limit = e.Length
	}
	e, err := f.current.ExtentAt(off)
	if err != nil {
		return image.Extent{}, err
	}
	if e.Kind == image.Zero { // the order matters, see above
		if e, err = image.FileExtent(f.scratch, off, off+e.Length); err != nil {
			return image.Extent{}, err
		}
	}
	e.Length = min(e.Length, limit)
	return e, nil
}

// Consumed frees what the scratch file holds for a range, and tells the filter
// that it need not copy there any more.
func (f *filtered) Consumed(off, n int64) { f.trim(off, n) }
