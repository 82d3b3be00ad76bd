package image

import (
	"errors"
	"fmt"
	"os"
)

// ErrInUse is wrapped when a virtual machine has an image open for writing.
var ErrInUse = errors.New("in use by a virtual machine")

// Hold keeps virtual machines of QEMU from opening files for writing until it
// is closed. They may still read. A file system without locks holds nobody off,
// and neither does a system other than Linux.
type Hold struct{ files []*os.File }

// NewHold holds all files, or none. One that a virtual machine writes to is
// [ErrInUse].
func NewHold(paths ...string) (*Hold, error) {
	h := new(Hold)
	for _, path := range paths {
		f, err := os.Open(path)
		if err == nil {
			h.files = append(h.files, f)
			err = forbidWriters(f)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("hold image %s: %w", path, err), h.Close())
		}
	}
	return h, nil
}

// Close lets everybody write again.
func (h *Hold) Close() error {
	var errs []error
	for _, f := range h.files {
		errs = append(errs, f.Close())
	}
	h.files = nil
	return errors.Join(errs...)
}
