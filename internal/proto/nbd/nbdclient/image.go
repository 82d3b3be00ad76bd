package nbdclient

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

// Image is an export as a source.
type Image struct {
	c       *client
	known   *known
	request int64 // most bytes of a READ or WRITE, a multiple of block
	block   int64 // all requests are aligned to it
	hints   chan struct{}
}

var (
	_ image.Image    = (*Image)(nil)
	_ image.Extenter = (*Image)(nil)
	_ image.Adviser  = (*Image)(nil)
)

// maxHints bounds the CACHE requests under way.
const maxHints = 4

// Open opens an export for reading. ctx is that of the image's whole life: when
// it ends, every call returns its cause.
func Open(ctx context.Context, u nbd.URI, o Options) (*Image, error) {
	c, err := dial(ctx, u, o)
	if err != nil {
		return nil, err
	}
	return newImage(c), nil
}

func newImage(c *client) *Image {
	b := c.base.sizes
	im := &Image{c: c, block: int64(b.Minimum), hints: make(chan struct{}, maxHints)}
	im.request = min(int64(c.opts.RequestSize), int64(b.Maximum), nbd.MaxPayload)
	im.request = max(im.request&^(im.block-1), im.block)
	im.known = newKnown(len(c.base.contexts))
	return im
}

// Size is the length in bytes when the export was opened.
func (im *Image) Size() int64 { return im.c.base.size }

// Name is the address that the image was opened by.
func (im *Image) Name() string { return im.c.name }

// Contexts are the metadata contexts that Status answers for.
func (im *Image) Contexts() []string { return slices.Clone(im.c.base.contexts) }

// Flags say what the export can do.
func (im *Image) Flags() nbd.ExportFlags { return im.c.base.flags }

// Close ends all connections.
func (im *Image) Close() error { return im.c.close() }

// ReadAt reads from the export.
func (im *Image) ReadAt(p []byte, off int64) (int, error) {
	return im.readAt(p, off, im.Size(), true)
}

func (im *Image) readAt(p []byte, off, size int64, repeat bool) (int, error) {
	return image.ReadWithin(p, off, size, func(p []byte, off int64) (int, error) {
		n, err := im.read(p, off, repeat)
		if err != nil {
			err = fmt.Errorf("%s: read %d bytes at offset %d: %w", im.c.name, len(p), off, err)
		}
		return n, err
	})
}

// read makes requests for [off, off+len(p)), which lies within the export.
func (im *Image) read(p []byte, off int64, repeat bool) (int, error) {
	var calls []*call
	var odd []int // calls that read around
	for at, end := off, off+int64(len(p)); at < end; {
		next := min((at/im.request+1)*im.request, end)
		from, to := im.around(at, next)
		k := &call{cmd: nbd.CmdRead, off: from, length: to - from, dst: p[at-off : next-off]}
		if from != at || to != next {
			k.dst = make([]byte, k.length)
			odd = append(odd, len(calls))
		}
		calls = append(calls, k)
		at = next
	}
	err := im.c.run(im.c.ctx, calls, repeat)
	for _, i := range odd {
		if k := calls[i]; k.err == nil {
			at := max(off, k.off)
			copy(p[at-off:], k.dst[at-k.off:])
		}
	}
	if err != nil {
		return 0, err
	}
	for _, k := range calls {
		if k.err != nil { // what came before is good
			return int(max(k.off-off, 0)), k.err
		}
	}
	return len(p), nil
}

// around widens [from, to) to whole blocks. An export's last block may be
// short.
func (im *Image) around(from, to int64) (int64, int64) {
	return from &^ (im.block - 1), min((to+im.block-1)&^(im.block-1), im.Size())
}

// within narrows [from, to) to whole blocks; it may become empty.
func (im *Image) within(from, to int64) (int64, int64) {
	from = (from + im.block - 1) &^ (im.block - 1)
	if to != im.Size() {
		to &^= im.block - 1
	}
	return from, max(from, to)
}

// WillNeed lets the server fetch a range into its cache, if it can.
func (im *Image) WillNeed(off, n int64) {
	if im.c.base.flags&nbd.SendCache == 0 || off < 0 || n <= 0 || off >= im.Size() {
		return
	}
	select {
	case im.hints <- struct{}{}:
	default: // the server has enough to do
		return
	}
	from, to := im.around(off, off+min(n, im.Size()-off, nbd.MaxPayload))
	im.c.background(func() {
		_ = im.c.run(im.c.ctx, []*call{{cmd: nbd.CmdCache, off: from, length: to - from}}, false) // a hint
		<-im.hints
	})
}

// maxEffect is the longest range that one request without data changes.
const maxEffect = 64 << 20

// Trim says that the content of [off, off+n) is not needed any more, as with
// the scratch disk of a running backup. Only whole blocks inside the range are
// given up.
func (im *Image) Trim(ctx context.Context, off, n int64) error {
	if off < 0 || n < 0 || off > im.Size()-n {
		return fmt.Errorf("%s: trim of %d bytes at offset %d of %d", im.c.name, n, off, im.Size())
	}
	if f := im.c.base.flags; f&nbd.SendTrim == 0 || f&nbd.ReadOnly != 0 {
		return fmt.Errorf("%s: trim: %w by this export", im.c.name, errors.ErrUnsupported)
	}
	from, to := im.within(off, off+n)
	for ; from < to; from = min(from+maxEffect, to) {
		k := &call{cmd: nbd.CmdTrim, off: from, length: min(maxEffect, to-from)}
		err := im.c.run(ctx, []*call{k}, true)
		if err == nil {
			err = k.err
		}
		if err != nil {
			return fmt.Errorf("%s: trim %d bytes at offset %d: %w", im.c.name, k.length, from, err)
		}
	}
	return nil
}
