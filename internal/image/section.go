package image

import "fmt"

// Section is a part of an image: a partition, or one piece of many.
type Section struct {
	img       Image
	off, size int64
}

var _ Extenter = (*Section)(nil)

// NewSection returns the size bytes of img that start at off.
func NewSection(img Image, off, size int64) (*Section, error) {
	if off < 0 || size < 0 || off > img.Size()-size { // no overflow: both sides are in range
		return nil, fmt.Errorf("image: section [%d,+%d) exceeds %d bytes", off, size, img.Size())
	}
	return &Section{img, off, size}, nil
}

// Size is the length of the section.
func (s *Section) Size() int64 { return s.size }

// ReadAt reads relative to the section's start.
func (s *Section) ReadAt(p []byte, off int64) (int, error) {
	return ReadWithin(p, off, s.size, func(p []byte, off int64) (int, error) {
		n, err := s.img.ReadAt(p, s.off+off)
		if n == len(p) {
			err = nil // io.EOF at the end of the image below
		}
		return n, err
	})
}

// ExtentAt clips the extents of the image below.
func (s *Section) ExtentAt(off int64) (Extent, error) {
	if off < 0 || off >= s.size {
		return Extent{}, fmt.Errorf("image: extent at %d of a section of %d bytes", off, s.size)
	}
	e, err := ExtentAt(s.img, s.off+off)
	if err != nil {
		return Extent{}, err
	}
	e.Offset = off
	e.Length = min(e.Length, s.size-off)
	return e, nil
}

// WillNeed passes the hint on.
func (s *Section) WillNeed(off, n int64) { WillNeed(s.img, s.off+off, n) }
