package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/throttle"
)

// openedDisks are the disks of a machine, open for reading.
type openedDisks struct {
	volumes []Volume // sorted by device
	closers []io.Closer
	process string // that serves them, as ProcessOf; "" if that is not known
}

// openDisks opens all disks; all of them share the limiter.
func openDisks(ctx context.Context, m Machine, limit *throttle.Limiter) (_ *openedDisks, err error) {
	o := new(openedDisks)
	defer func() {
		if err != nil {
			o.close()
		}
	}()
	if len(m.Disks) == 0 {
		return nil, usagef("there are no disks to back up")
	}
	for _, device := range slices.Sorted(maps.Keys(m.Disks)) {
		d := m.Disks[device]
		if err := d.check(device); err != nil {
			return nil, err
		}
		img, err := o.open(ctx, device, d)
		if err != nil {
			return nil, fmt.Errorf("disk %s: %w", device, err)
		}
		if img.Size() != d.Size {
			return nil, fmt.Errorf("disk %s: it has %d bytes, and %d were announced", device, img.Size(), d.Size)
		}
		if limit != nil {
			img = paced{img, ctx, limit}
		}
		o.volumes = append(o.volumes, Volume{Device: device, Image: img, Mode: d.Mode})
	}
	return o, nil
}

func (o *openedDisks) open(ctx context.Context, device string, d Disk) (image.Image, error) {
	if d.NBDPath != "" {
		img, err := openExport(ctx, device, d, &o.process)
		if err != nil {
			return nil, err
		}
		o.closers = append(o.closers, img)
		return img, nil
	}
	img, err := openDevice(d)
	if err != nil {
		return nil, err
	}
	o.closers = append(o.closers, img)
	return img, nil
}

// close closes them all; only reading depended on them.
func (o *openedDisks) close() {
	for _, c := range o.closers {
		_ = c.Close()
	}
}

// check refuses what cannot be meant.
func (d Disk) check(device string) error {
	switch {
	case !names.IsSafeID(device) || len(device) > maxDevice:
		return usagef("%q is no name of a disk", device)
	case d.Size < 1:
		return usagef("disk %s: a size of %d bytes", device, d.Size)
	case (d.NBDPath == "") == (d.Path == ""):
		return usagef("disk %s: want either an NBD socket or a path", device)
	case d.Mode != ModeNone && d.Mode != ModeNew && d.Mode != ModeReuse:
		return usagef("disk %s: unknown bitmap mode %q", device, d.Mode)
	case d.Mode == ModeReuse && d.NBDPath != "" && d.BitmapName == "":
		return usagef("disk %s: mode reuse without the name of a bitmap", device)
	case d.Mode == ModeReuse && d.Path != "" && d.Regions == nil:
		return usagef("disk %s: mode reuse without dirty regions", device)
	}
	return nil
}

// maxDevice leaves room for what storages add to the name.
const maxDevice = 200

// paced reads an image at the rate of a limiter.
type paced struct {
	image.Image
	ctx   context.Context
	limit *throttle.Limiter
}

var (
	_ image.Extenter = paced{}
	_ image.Adviser  = paced{}
	_ image.Consumer = paced{}
)

// step is what is let through at a time, in bytes, so that disks take turns.
const step = 256 << 10

func (p paced) ReadAt(b []byte, off int64) (n int, err error) {
	for n < len(b) {
		part := b[n:min(len(b), n+step)]
		if err := p.limit.Wait(p.ctx, len(part)); err != nil {
			return n, err
		}
		m, err := p.Image.ReadAt(part, off+int64(n))
		n += m
		if m < len(part) {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.EOF
			}
			return n, err
		}
	}
	return n, nil
}

func (p paced) ExtentAt(off int64) (image.Extent, error) { return image.ExtentAt(p.Image, off) }
func (p paced) WillNeed(int64, int64)                    {} // it would read past the limiter
func (p paced) Consumed(off, n int64)                    { image.Consumed(p.Image, off, n) }
