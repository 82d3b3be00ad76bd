package guest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/image"
)

const imageExt, blobExt = ".img.fidx", ".blob"

// plan is what a point becomes.
type plan struct {
	sources []backup.Source
	disks   []DiskReport
	mark    Mark
}

// plan has the small files first: listings show them so.
func (j *Job) plan(p Point, req Request) (plan, error) {
	w := plan{mark: Mark{}}
	for _, c := range slices.Concat(p.Configs(), j.Configs) {
		name, err := names.ParseArchive(c.Name + blobExt)
		if err != nil {
			return plan{}, err
		}
		w.sources = append(w.sources, backup.Source{Name: name, Data: c.Data})
	}
	for _, d := range p.Disks() {
		name, err := names.ParseArchive(d.Name + imageExt)
		if err != nil {
			return plan{}, err
		}
		if err := d.check(req); err != nil {
			return plan{}, fmt.Errorf("disk %s: %w", d.Name, err)
		}
		if d.Mode != None {
			w.mark[name] = d.Bitmap
		}
		if d.Mode != Reuse {
			d.Image = whole{d.Image}
		}
		w.sources = append(w.sources, backup.Source{Name: name, Image: d.Image})
		w.disks = append(w.disks, DiskReport{Name: d.Name, Archive: name, Size: d.Image.Size(), Mode: d.Mode, Why: d.Why})
	}
	return w, nil
}

// diskOf is the disk that became an archive.
func diskOf(name names.Archive) (string, bool) {
	return strings.CutSuffix(string(name), imageExt)
}

// check does not trust a backend with what would spoil a backup unseen.
func (d *Disk) check(req Request) error {
	if d.Mode == Reuse {
		switch base, ok := req.Base[d.Name]; {
		case !ok:
			return ErrBase
		case base.Size != d.Image.Size():
			return fmt.Errorf("%w: the disk had %d bytes then and has %d now", ErrBase, base.Size, d.Image.Size())
		}
	}
	want := req.New
	if d.Mode == None {
		want = ""
	}
	if d.Bitmap != want {
		return fmt.Errorf("internal error: mode %s with the bitmap %q, want %q", d.Mode, d.Bitmap, want)
	}
	return nil
}

// whole is an image all of which is read.
type whole struct{ image.Image }

var (
	_ image.Extenter = whole{}
	_ image.Adviser  = whole{}
	_ image.Consumer = whole{}
)

// ExtentAt takes nobody's word for what is unchanged.
func (w whole) ExtentAt(off int64) (image.Extent, error) {
	e, err := image.ExtentAt(w.Image, off)
	if e.Kind == image.Unchanged {
		e.Kind = image.Data
	}
	return e, err
}

// WillNeed passes the hint on.
func (w whole) WillNeed(off, n int64) { image.WillNeed(w.Image, off, n) }

// Consumed passes the hint on.
func (w whole) Consumed(off, n int64) { image.Consumed(w.Image, off, n) }
