package nbdclient

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

// Changed is an export of which a dirty bitmap tells what changed since the
// base that a backup is made against: what is clean is Unchanged; what is
// dirty and now reads as zeros, as after a discard, is Zero; the rest is Data.
//
// Whether the bitmap counts from the right base only the caller can know.
type Changed struct {
	*Image
	bitmap int // index of the context
}

var _ image.Extenter = (*Changed)(nil)

// ChangedBy filters the extents through a context that was selected with
// Options.Contexts, as "qemu:dirty-bitmap:NAME".
func (im *Image) ChangedBy(context string) (*Changed, error) {
	if !strings.HasPrefix(context, nbd.QEMUDirtyBitmap) && !strings.HasPrefix(context, changedSince) {
		return nil, fmt.Errorf("%s: %q is no dirty bitmap", im.c.name, context)
	}
	i := slices.Index(im.c.base.contexts, context)
	if i < 0 {
		return nil, fmt.Errorf("%s: metadata context %q was not selected", im.c.name, context)
	}
	return &Changed{im, i}, nil
}

// changedSince begins the contexts of Holdfast's own server that compare two
// snapshots. Their flags are those of a dirty bitmap.
const changedSince = "x-holdfast:changed-since:"

// ExtentAt combines the bitmap with base:allocation. A failure is an error:
// nothing is taken for unchanged without the server's word.
func (c *Changed) ExtentAt(off int64) (image.Extent, error) {
	if off < 0 || off >= c.Size() {
		return image.Extent{}, fmt.Errorf("%s: extent at %d of %d bytes", c.c.name, off, c.Size())
	}
	end, flags, err := c.extent(c.bitmap, off)
	if err != nil {
		return image.Extent{}, err
	}
	if flags&nbd.StateDirty == 0 {
		return image.Extent{Offset: off, Length: end - off, Kind: image.Unchanged}, nil
	}
	e, err := c.Image.ExtentAt(off)
	if err != nil {
		return image.Extent{}, err
	}
	e.Length = min(e.Length, end-off)
	return e, nil
}
