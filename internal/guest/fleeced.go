package guest

import (
	"context"
	"errors"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd/nbdclient"
)

// Fleeced is a disk of a point that is read through a scratch image whose
// backing file is the running disk, as with QEMU's blockdev-backup and
// libvirt's pull mode. bitmap is the context that tells what changed,
// "qemu:dirty-bitmap:NAME"; "": all may have.
//
// It does not take QEMU's first word for zeros. QEMU looks whether the scratch
// image has a range, and then what the running disk has there; when the guest
// zeroes the range in between, what it had at the point is in the scratch image
// by then, and the answer is of the disk after the point. Reads wait for such a
// write, the question does not. So a range is zero only if a second answer says
// so too: had the guest written before the first one was complete, the second
// would find the range in the scratch image.
func Fleeced(im *nbdclient.Image, bitmap string) (image.Image, error) {
	f := fleeced{im, im}
	if bitmap != "" {
		c, err := im.ChangedBy(bitmap)
		if err != nil {
			return nil, err
		}
		f.extents = c
	}
	return f, nil
}

type fleeced struct {
	*nbdclient.Image
	extents image.Extenter
}

var (
	_ image.Extenter = fleeced{}
	_ image.Adviser  = fleeced{}
)

// errSure ends the questions about the rest of an extent.
var errSure = errors.New("known")

func (f fleeced) ExtentAt(off int64) (image.Extent, error) {
	e, err := f.extents.ExtentAt(off)
	if err != nil || e.Kind != image.Zero {
		return e, err
	}
	ctx := context.Background() // the image's own ends every call
	err = f.Status(ctx, nbd.BaseAllocation, off, e.Length, func(_, length int64, flags uint64) error {
		if flags&nbd.StateZero == 0 {
			e.Kind = image.Data
		}
		e.Length = length
		return errSure
	})
	if errors.Is(err, errSure) {
		err = nil
	}
	return e, err
}
