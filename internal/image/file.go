package image

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/holdfast-backup/holdfast/internal/kernel/blockdev"
)

// FileOptions says how a raw source is read.
type FileOptions struct {
	// Sequential tells the kernel to read far ahead, for one pass from start
	// to end.
	Sequential bool
	// NoHoles reads everything and does not ask the file system for holes, for
	// file systems that are not trusted to answer truly.
	NoHoles bool
}

// File is a raw image in a regular file or on a block device, open for reading.
// Its size is that of the moment of opening.
type File struct {
	f       *os.File
	path    string
	size    int64
	device  bool
	noHoles bool
}

var (
	_ Image    = (*File)(nil)
	_ Extenter = (*File)(nil)
	_ Adviser  = (*File)(nil)
)

// ShrunkError reports an image file that became shorter while it was read.
type ShrunkError struct {
	Path string
	Want int64 // bytes at the time of opening
	Have int64 // bytes now
}

func (e *ShrunkError) Error() string {
	return fmt.Sprintf("image %s shrank while it was read: it had %d bytes when it was opened and has %d now; "+
		"stop what changes it or read from a snapshot of it", e.Path, e.Want, e.Have)
}

// OpenFile opens a regular file or block device as a raw image. Nothing of its
// content is interpreted.
func OpenFile(path string, opts FileOptions) (*File, error) {
	// Opening a pipe would wait for a writer, so look first.
	info, err := os.Stat(path)
	if err != nil {
		return nil, openError(path, err)
	}
	if err := checkKind(path, info.Mode()); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, openError(path, err)
	}
	img, err := NewFile(f, opts)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return img, nil
}

// NewFile makes a raw image of an open file or block device and owns it from
// then on; after an error the caller still does.
func NewFile(f *os.File, opts FileOptions) (*File, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, openError(f.Name(), err)
	}
	if err := checkKind(f.Name(), info.Mode()); err != nil {
		return nil, err
	}
	img := &File{f: f, path: f.Name(), size: info.Size(), noHoles: opts.NoHoles}
	if !info.Mode().IsRegular() {
		img.device = true
		if img.size, err = deviceSize(f); err != nil {
			return nil, fmt.Errorf("cannot find out the size of block device %s: %w", img.path, err)
		}
	}
	if opts.Sequential {
		adviseSequential(f)
	}
	return img, nil
}

// Size is the length in bytes at the time of opening.
func (f *File) Size() int64 { return f.size }

// Path is the name that the image was opened by.
func (f *File) Path() string { return f.path }

// IsDevice reports a block device.
func (f *File) IsDevice() bool { return f.device }

// Writer reports whether a virtual machine of QEMU has the image open for
// writing, by its locks. What is read meanwhile is a mixture of times. No is
// no proof: other programs take no such locks.
func (f *File) Writer() bool { return hasWriter(f.f) }

// ReadAt reads from the image. A file that has become shorter than it was is a
// [*ShrunkError], never zeros and never io.EOF.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	return ReadWithin(p, off, f.size, func(p []byte, off int64) (int, error) {
		n, err := f.f.ReadAt(p, off)
		if n == len(p) {
			return n, nil
		}
		if errors.Is(err, io.EOF) {
			return n, &ShrunkError{Path: f.path, Want: f.size, Have: off + int64(n)}
		}
		if pe, ok := errors.AsType[*fs.PathError](err); ok {
			err = pe.Err // the path is named once, here
		}
		return n, fmt.Errorf("read image %s at offset %d: %w", f.path, off+int64(n), err)
	})
}

// ExtentAt asks the file system where the data is. Holes are Zero.
func (f *File) ExtentAt(off int64) (Extent, error) {
	if off < 0 || off >= f.size {
		return Extent{}, fmt.Errorf("image %s: extent at %d of %d bytes", f.path, off, f.size)
	}
	if f.noHoles || f.device {
		return Extent{Offset: off, Length: f.size - off, Kind: Data}, nil
	}
	return FileExtent(f.f, off, f.size)
}

// FileExtent is the extent at off (0 <= off < size) of the first size bytes of
// an open file: Zero in a hole, otherwise Data. A file that is shorter than
// size is a [*ShrunkError].
func FileExtent(f *os.File, off, size int64) (Extent, error) {
	rest := Extent{Offset: off, Length: size - off, Kind: Data}
	data, hole, err := seekExtent(f, off)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return rest, nil
	case err != nil:
		return Extent{}, fmt.Errorf("look for holes in image %s at offset %d: %w", f.Name(), off, err)
	case data < 0: // nothing but a hole up to the end, if this is still the end
		info, err := f.Stat()
		if err != nil {
			return Extent{}, fmt.Errorf("look for holes in image %s at offset %d: %w", f.Name(), off, err)
		}
		if info.Size() < size {
			return Extent{}, &ShrunkError{Path: f.Name(), Want: size, Have: info.Size()}
		}
		rest.Kind = Zero
	case data > off:
		rest.Kind, rest.Length = Zero, min(data, size)-off
	case hole > off:
		rest.Length = min(hole, size) - off
	}
	return rest, nil
}

// WillNeed asks the kernel to fetch a range into its cache.
func (f *File) WillNeed(off, n int64) { adviseWillNeed(f.f, off, n) }

// Close closes the file.
func (f *File) Close() error { return f.f.Close() }

// ReadWithin applies the rules of an image's ReadAt around read, which is only
// asked for bytes below size and returns fewer only with an error.
func ReadWithin(p []byte, off, size int64, read func(p []byte, off int64) (int, error)) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("image: read at negative offset %d", off)
	}
	if off >= size {
		return 0, io.EOF
	}
	short := int64(len(p)) > size-off
	if short {
		p = p[:size-off]
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := read(p, off)
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

// checkKind lets regular files and block devices through.
func checkKind(path string, mode fs.FileMode) error {
	const name = "name a disk image file or a block device"
	switch {
	case mode.IsRegular():
		return nil
	case mode.IsDir():
		return fmt.Errorf("%s is a directory, not a disk image: %s", path, name)
	case mode&fs.ModeNamedPipe != 0:
		return fmt.Errorf("%s is a pipe, not a disk image: read it through standard input instead", path)
	case mode&fs.ModeSocket != 0:
		return fmt.Errorf("%s is a socket, not a disk image: %s", path, name)
	case mode&fs.ModeCharDevice != 0:
		return fmt.Errorf("%s is a character device, not a disk image: %s", path, name)
	case mode&fs.ModeDevice != 0:
		return nil
	}
	return fmt.Errorf("%s is neither a file nor a block device (%s): %s", path, mode.Type(), name)
}

// openError is a sentence for the usual reasons why a path does not open.
func openError(path string, err error) error {
	cause := err
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		cause = pe.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no image %s (%w): check the path", path, cause)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("no permission to read image %s (%w): run as a user who may, or change its owner or mode", path, cause)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("there is no image %s (%w): a part of the path is a file", path, cause)
	}
	return fmt.Errorf("cannot open image %s: %w", path, cause)
}

// deviceSize asks the driver and, where there is no such question, seeks.
func deviceSize(f *os.File) (int64, error) {
	g, err := blockdev.Inspect(f)
	if err == nil {
		return g.Size, nil
	}
	if !errors.Is(err, errors.ErrUnsupported) {
		return 0, err
	}
	return f.Seek(0, io.SeekEnd)
}
