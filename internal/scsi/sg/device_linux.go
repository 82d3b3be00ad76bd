package sg

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/pagebuf"
	"github.com/holdfast-backup/holdfast/internal/scsi"
)

// Device is an open node. It is a [scsi.Transport].
type Device struct {
	file *os.File
	most int // bytes that the host adapter moves in one command; 0: not known

	mu     sync.Mutex // held while a command runs
	page   *pagebuf.Buffer
	frame  *frame // in page
	pack   int32  // number of the last command
	ioctl  bool   // the kernel refuses write here
	broken error  // an answer is outstanding that nobody can tell from the next
}

var _ scsi.Transport = (*Device)(nil)

// Open opens the node of a device.
func Open(path string) (*Device, error) {
	// Not to wait for one who has the node for itself.
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, openError(path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	d, err := FromFile(f)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return d, nil
}

// openError adds what to do.
func openError(path string, err error) error {
	hint := ""
	switch {
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		hint = " (its group, often tape, may use it)"
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EAGAIN):
		hint = " (another program has it for itself)"
	case errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		hint = " (the device is not connected any more)"
	}
	return fmt.Errorf("%w%s", &fs.PathError{Op: "open", Path: path, Err: err}, hint)
}

// FromFile uses a descriptor that was opened elsewhere. With success it belongs
// to the device, without it to the caller.
func FromFile(f *os.File) (*Device, error) {
	if err := check(f); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	if err := unix.SetNonblock(int(f.Fd()), false); err != nil { // read waits for answers
		return nil, fmt.Errorf("open %s: %w", f.Name(), err)
	}
	page, err := pagebuf.New(int(unsafe.Sizeof(frame{})))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", f.Name(), err)
	}
	d := &Device{file: f, page: page, frame: (*frame)(unsafe.Pointer(unsafe.SliceData(page.Bytes())))}
	// Both are about speed and a better error: a device that knows neither works.
	if most, err := unix.IoctlGetInt(d.fd(), ioctlMaxBytes); err == nil {
		d.most = most
	}
	_ = unix.IoctlSetPointerInt(d.fd(), ioctlSetReserved, reserved)
	return d, nil
}

// reserved is the buffer that the kernel keeps for the descriptor: one block
// of a tape.
const reserved = 256 << 10

// check sees to it that a descriptor is what this package can use.
func check(f *os.File) error {
	fd := int(f.Fd())
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	switch major := unix.Major(st.Rdev); {
	case st.Mode&unix.S_IFMT != unix.S_IFCHR:
		return errors.New("not the node of a SCSI device")
	case major == majorTape:
		return errors.New("the node belongs to the kernel's tape driver st; use the generic node /dev/sgN of the same device (lsscsi -g shows it)")
	case major != majorGeneric:
		return fmt.Errorf("not a generic SCSI node: its major number is %d, not %d", major, majorGeneric)
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	if flags&unix.O_ACCMODE != unix.O_RDWR {
		return errors.New("the node is not open for reading and writing, and the kernel would refuse most commands")
	}
	version, err := unix.IoctlGetInt(fd, ioctlVersion)
	if err != nil {
		return fmt.Errorf("version of the driver sg: %w", err)
	}
	if version < leastVersion {
		return fmt.Errorf("version %d of the driver sg is too old, %d is needed", version, leastVersion)
	}
	return nil
}

func (d *Device) fd() int { return int(d.file.Fd()) }

// File is the descriptor, to be handed to another process. It belongs to the
// device.
func (d *Device) File() *os.File { return d.file }

// Close waits for the running command and closes the node.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.page == nil {
		return nil
	}
	err := d.file.Close()
	if d.broken == nil {
		d.page.Free() // else an answer may still come; it is one page
	}
	d.page, d.frame = nil, nil
	return err
}
