package volume

import (
	"context"
	"errors"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/volumeheader"
)

// Outcome says what Ensure found or did.
type Outcome string

// The outcomes. Everything else is an error, and nothing was changed.
const (
	Match   Outcome = "match"   // the volume holds the image
	Written Outcome = "written" // there is a new header; the payload is to be written
)

// Ensure makes the header of a device say that it holds the image with this
// digest, of size bytes (0 if that is not known). A header that says so already
// is not written, and the device may be in use meanwhile.
func Ensure(ctx context.Context, path string, d digest.Digest, size int64, o Options) (Outcome, error) {
	if d.IsZero() {
		return "", errors.New("a digest of zeros is that of no image")
	}
	l, err := lock(ctx, path, o)
	if err != nil {
		return "", err
	}
	defer l.close()
	sector, err := l.sector()
	if err != nil {
		return "", err
	}
	if match, err := l.ensured(sector, d, size); match || err != nil {
		return Match, err
	}
	// A medium with larger sectors cannot be mapped from byte 512 on.
	if l.usualStart() != volumeheader.Sector {
		return "", errors.New(l.path + " has sectors of more than 512 bytes, for which version 1 of the header has no place: " +
			"fill it by a restore, which writes version 2")
	}
	dev, err := l.claim()
	if err != nil {
		return "", err
	}
	out, err := ensureOn(dev, l.place, d, size)
	return out, errors.Join(err, dev.Close())
}

// ensured compares in this order: version, size, digest.
func (p place) ensured(sector []byte, d digest.Digest, size int64) (match bool, err error) {
	now, err := p.header(sector)
	if err != nil {
		return false, err
	}
	start := int64(volumeheader.Sector)
	match = now != nil && now.Holds(d)
	if match {
		start = now.Start()
	}
	return match, p.fits(start, size)
}

// ensureOn writes the header of a device that nobody else can change.
func ensureOn(dev device, p place, d digest.Digest, size int64) (Outcome, error) {
	sector, err := readSector(dev)
	if err != nil {
		return "", err
	}
	if match, err := p.ensured(sector, d, size); match || err != nil {
		return Match, err
	}
	return Written, writeHeader(dev, sector, volumeheader.Short(d))
}
