package target

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/holdfast-backup/holdfast/internal/kernel/blockdev"
	"github.com/holdfast-backup/holdfast/internal/kernel/fileops"
)

// ErrBusy is wrapped when something else uses the target.
var ErrBusy = errors.New("in use")

// OpenExisting opens a file or block device that an image of size bytes is
// written onto. A file must have exactly that size; a block device may be
// larger and keeps what lies behind the image.
func OpenExisting(path string, size int64) (*File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, existingError(path, err)
	}
	mode := info.Mode()
	device := mode&fs.ModeDevice != 0 && mode&fs.ModeCharDevice == 0
	if !mode.IsRegular() && !device {
		return nil, fmt.Errorf("cannot restore onto %s: it is neither a file nor a block device", path)
	}
	flag := os.O_RDWR
	if device {
		flag |= os.O_EXCL // without O_CREATE: claim the device
	}
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		return nil, existingError(path, err)
	}
	t, err := existing(f, path, size, true)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return t, nil
}

// NewExisting makes a target of the first size bytes of an open file or block
// device, which nobody else uses, and owns it from then on; after an error the
// caller still does.
func NewExisting(f *os.File, size int64) (*File, error) { return existing(f, f.Name(), size, false) }

func existing(f *os.File, path string, size int64, exact bool) (*File, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, existingError(path, err)
	}
	t := &File{f: f, path: path, size: size}
	block := int64(0)
	if info.Mode()&fs.ModeDevice != 0 {
		block, err = t.checkDevice()
	} else {
		err = t.checkRegular(info, exact)
	}
	if err != nil {
		return nil, err
	}
	t.direct = openDirect(f, block)
	return t, nil
}

func (f *File) checkRegular(info fs.FileInfo, exact bool) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("cannot restore onto %s: it was exchanged for something else just now", f.path)
	}
	if info.Size() < f.size || exact && info.Size() > f.size {
		return fmt.Errorf("cannot restore onto %s: it has %d bytes and the image has %d: "+
			"set its size first (truncate -s %d) or restore to a new file", f.path, info.Size(), f.size, f.size)
	}
	if err := claim(f.f); err != nil {
		if errors.Is(err, ErrBusy) {
			return fmt.Errorf("cannot restore onto %s: it is %w by a running virtual machine or another program: stop it first", f.path, err)
		}
		return existingError(f.path, err)
	}
	f.zero = zeroer{punch: fileops.Punch, block: 1}
	return nil
}

// checkDevice returns the unit of direct reads.
func (f *File) checkDevice() (block int64, err error) {
	g, err := blockdev.Inspect(f.f)
	if err != nil {
		return 0, fmt.Errorf("cannot restore onto %s: %w", f.path, err)
	}
	if g.ReadOnly {
		return 0, fmt.Errorf("cannot restore onto %s: the device is read-only", f.path)
	}
	if g.Size < f.size {
		return 0, fmt.Errorf("cannot restore onto %s: the device has %d bytes and the image has %d: "+
			"take a device that is at least as large", f.path, g.Size, f.size)
	}
	// Whole pages, so that the kernel's cache and the device never disagree on
	// a part of one.
	f.zero = zeroer{punch: blockdev.PunchZeros, write: blockdev.ZeroOut, block: int64(max(g.LogicalBlock, os.Getpagesize()))}
	return int64(g.LogicalBlock), nil
}

func existingError(path string, err error) error {
	cause := err
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		cause = pe.Err
	}
	switch {
	case isBusy(err):
		return fmt.Errorf("cannot restore onto %s: it is %w (%w): unmount it, and detach it from LVM, RAID, swap or virtual machines first",
			path, ErrBusy, cause)
	case isReadOnly(err):
		return fmt.Errorf("cannot restore onto %s: it is read-only (%w)", path, cause)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("cannot restore onto %s: it does not exist (%w); restore to a new file instead", path, cause)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("cannot restore onto %s: no permission to change it (%w)", path, cause)
	}
	return fmt.Errorf("cannot restore onto %s: %w", path, cause)
}
