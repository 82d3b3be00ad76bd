package volume

import (
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/format/volumeheader"
)

// Info is a device and its header.
type Info struct {
	Device string // without symbolic links
	Size   int64  // bytes of the device
	Header volumeheader.Header
}

// Payload is how many bytes a guest sees.
func (i Info) Payload() int64 {
	return i.Size/volumeheader.Sector*volumeheader.Sector - i.Header.Start()
}

// Read reads the header of a device, which may be in use. It asks for no lock:
// what it says was so at some moment.
func Read(path string) (Info, error) {
	l, err := look(path)
	if err != nil {
		return Info{}, err
	}
	defer l.close()
	return l.info()
}

func (l *locked) info() (Info, error) {
	sector, err := l.sector()
	if err != nil {
		return Info{}, err
	}
	h, err := volumeheader.Parse(sector)
	if err != nil {
		return Info{}, fmt.Errorf("%s: %w", l.path, err)
	}
	i := Info{Device: l.node, Size: l.size, Header: h}
	if i.Payload() <= 0 {
		return Info{}, fmt.Errorf("%s: %w: the payload begins at byte %d of %d", l.path, volumeheader.ErrFormat, h.Start(), l.size)
	}
	return i, nil
}
