package volume

import (
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/format/volumeheader"
)

// Aligned is where the payload begins on devices whose own sectors are larger
// than 512 bytes, and where the user wants it: no payload sector then straddles two
// sectors of the medium.
const Aligned = 1 << 20

// place is what is known of a device before anything is done to it.
type place struct {
	path    string // as the user named it
	size    int64  // bytes
	logical int64  // bytes of its own sectors
}

// usualStart is where the payload of a new header begins.
func (p place) usualStart() int64 {
	if p.logical > volumeheader.Sector {
		return Aligned
	}
	return volumeheader.Sector
}

// header decodes the first sector. It is nil for a device that is no volume, or whose
// header is damaged. One of a later version is an error: it stays as it is.
func (p place) header(sector []byte) (*volumeheader.Header, error) {
	h, err := volumeheader.Parse(sector)
	switch {
	case err == nil:
		return &h, nil
	case errors.Is(err, volumeheader.ErrNone), errors.Is(err, volumeheader.ErrFormat):
		return nil, nil
	}
	return nil, fmt.Errorf("%s: %w: it is left as it is", p.path, err)
}

// fits reports whether an image fits behind a header.
func (p place) fits(start, size int64) error {
	const s = volumeheader.Sector
	if size < 0 || size > volumeheader.MaxSize {
		return fmt.Errorf("an image of %d bytes does not fit on any device", size)
	}
	need := start + (size+s-1)/s*s
	if need > p.size/s*s {
		return &TooSmallError{Path: p.path, Device: p.size, Image: size, Need: need}
	}
	return nil
}
