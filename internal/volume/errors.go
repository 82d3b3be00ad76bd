package volume

import (
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/format/volumeheader"
	"github.com/holdfast-backup/holdfast/internal/kernel/holders"
)

// Errors that callers tell apart.
var (
	ErrReadOnly = errors.New("the device is read-only")
	ErrFilling  = errors.New("the volume was not filled to its end")
)

// TooSmallError reports a device that an image does not fit on.
type TooSmallError struct {
	Path   string
	Device int64 // bytes
	Image  int64
	Need   int64 // bytes of a device that is large enough
}

func (e *TooSmallError) Error() string {
	const s = volumeheader.Sector
	return fmt.Sprintf("%s is too small: it has %d bytes (%d sectors), and an image of %d bytes with the header needs %d (%d sectors)",
		e.Path, e.Device, e.Device/s, e.Image, e.Need, e.Need/s)
}

// BusyError reports a device that something else uses.
type BusyError struct {
	Path    string
	Holders []holders.Holder // as far as they can be seen
}

func (e *BusyError) Error() string {
	if len(e.Holders) == 0 {
		return e.Path + " is in use by another process"
	}
	return fmt.Sprintf("%s is in use: %s", e.Path, holders.Join(e.Holders))
}
