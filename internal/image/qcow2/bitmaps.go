package qcow2

import (
	"errors"
	"fmt"
	"math/bits"

	format "github.com/holdfast-backup/holdfast/internal/format/qcow2"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// ErrBitmap is wrapped when a bitmap cannot tell what changed.
var ErrBitmap = errors.New("no use of the bitmap")

// Bitmaps lists the persistent dirty bitmaps of the image, not of the files
// behind it. Those that are in use are there too and cannot be read.
func (i *Image) Bitmaps() ([]format.Bitmap, error) { return i.layers[0].bitmaps() }

func (l *layer) bitmaps() ([]format.Bitmap, error) {
	d := l.h.Bitmaps
	if d.Count == 0 || l.h.Autoclear&format.AutoclearBitmaps == 0 { // without the bit a program changed the image that knows no bitmaps
		return nil, nil
	}
	if d.Offset > l.file.Size()-d.Size {
		return nil, fmt.Errorf("image %s: %w: bitmap directory behind the end", l.file.Path(), format.ErrFormat)
	}
	b := make([]byte, d.Size) // at most 66 MiB, and no more than the file has
	if n, err := l.file.ReadAt(b, d.Offset); n < len(b) {
		return nil, err
	}
	all, err := format.ParseBitmaps(&l.h, b)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", l.file.Path(), err)
	}
	return all, nil
}

// Since is the image with the blocks that a bitmap calls clean as
// [image.Unchanged].
type Since struct {
	*Image
	bitmap format.Bitmap
}

var _ image.Extenter = (*Since)(nil)

// Since returns the image as seen from the time when a bitmap was made. One that
// is not there, was not closed properly or does not record may lack changes, and
// so does one of which a file behind the image has a part: who made a snapshot
// began a bitmap of the same name in the new file. These are refused with
// [ErrBitmap].
func (i *Image) Since(bitmap string) (*Since, error) {
	path := i.layers[0].file.Path()
	refuse := func(why string) (*Since, error) {
		return nil, fmt.Errorf("%w %q of image %s: %s: read the whole image, and make a new bitmap", ErrBitmap, bitmap, path, why)
	}
	var found *format.Bitmap
	for n, l := range i.layers {
		all, err := l.bitmaps()
		if err != nil {
			return nil, err
		}
		for _, b := range all {
			switch {
			case b.Name != bitmap:
			case n > 0:
				return refuse("a part of it is in " + l.file.Path() + ", which a snapshot put behind the image")
			case b.InUse:
				return refuse("it was not closed properly and may lack changes")
			case !b.Auto:
				return refuse("it does not record")
			default:
				found = &b
			}
		}
		if n == 0 && found == nil {
			return refuse("the image does not have it")
		}
	}
	return &Since{i, *found}, nil
}

// ExtentAt is that of the image, cut where dirty and clean blocks meet.
func (s *Since) ExtentAt(off int64) (image.Extent, error) {
	if off < 0 || off >= s.Size() {
		return s.Image.ExtentAt(off)
	}
	dirty, n, err := s.run(off)
	if err != nil {
		return image.Extent{}, s.failed(nil, off, err)
	}
	n = min(n, s.Size()-off)
	if !dirty {
		return image.Extent{Offset: off, Length: n, Kind: image.Unchanged}, nil
	}
	e, err := s.Image.ExtentAt(off)
	if err != nil {
		return image.Extent{}, err
	}
	e.Length = min(e.Length, n)
	return e, nil
}

// run tells whether the block at off is dirty, and for how many bytes that is
// so at least.
func (s *Since) run(off int64) (dirty bool, n int64, err error) {
	l, b := s.layers[0], s.bitmap
	span := b.Span(&l.h)
	entryOff := b.TableOffset + off/span*8
	page, err := l.page(entryOff)
	if err != nil {
		return false, 0, err
	}
	rel := entryOff % l.cache.page(&l.h)
	if rel+8 > int64(len(page)) {
		return false, 0, fmt.Errorf("%w: table of bitmap %q at offset %d, which the file ends in", format.ErrFormat, b.Name, b.TableOffset)
	}
	cluster, all, err := format.BitmapCluster(&l.h, page[rel:])
	if err != nil || cluster == 0 {
		return all, span - off%span, err
	}
	first := off % span / b.Granularity // block within the cluster of bits
	if page, err = l.page(cluster + first/8); err != nil {
		return false, 0, err
	}
	rel = (cluster + first/8) % l.cache.page(&l.h)
	if rel >= int64(len(page)) {
		return false, 0, fmt.Errorf("%w: bits of bitmap %q behind the end of the file", format.ErrFormat, b.Name)
	}
	dirty, blocks := countRun(page[rel:], int(first%8))
	return dirty, int64(blocks)*b.Granularity - off%b.Granularity, nil
}

// countRun returns the bit at position first of b, and how many bits from there
// on are like it.
func countRun(b []byte, first int) (set bool, n int) {
	set = b[0]>>first&1 != 0
	n = -first
	for i, x := range b {
		if set {
			x = ^x
		}
		if i == 0 {
			x = x >> first << first
		}
		if x != 0 { // a bit of the other kind
			return set, n + bits.TrailingZeros8(x)
		}
		n += 8
	}
	return set, n
}
