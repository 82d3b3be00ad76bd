package sg

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/scsi"
)

// Do sends one command and waits for its end.
func (d *Device) Do(c scsi.Command) (int, error) {
	if err := c.Check(); err != nil {
		return 0, err
	}
	op := scsi.OpcodeOf(c.CDB)
	if d.most > 0 && len(c.Data) > d.most {
		return 0, fmt.Errorf("%s: %d bytes of data, the host adapter moves at most %d in one command (max_sectors of its driver)", op, len(c.Data), d.most)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.page == nil {
		return 0, &scsi.TransportError{Op: op, Err: os.ErrClosed}
	}
	if d.broken != nil {
		return 0, &scsi.TransportError{Op: op, Err: fmt.Errorf("the device must be opened again after: %w", d.broken)}
	}
	var pin runtime.Pinner
	defer pin.Unpin()
	d.prepare(c, &pin)
	if err := d.send(); err != nil {
		return 0, &scsi.TransportError{Op: op, Err: err}
	}
	return d.frame.result(op, len(c.Data))
}

// prepare fills the frame. The data stays where it is until pin lets it go.
func (d *Device) prepare(c scsi.Command, pin *runtime.Pinner) {
	f := d.frame
	*f = frame{}
	copy(f.cdb[:], c.CDB)
	d.pack++
	f.header = header{
		InterfaceID: interfaceID,
		Direction:   directions[c.Dir],
		CDBLen:      uint8(len(c.CDB)),
		CDB:         uintptr(unsafe.Pointer(&f.cdb)),
		SenseMax:    uint8(len(f.sense)),
		Sense:       uintptr(unsafe.Pointer(&f.sense)),
		Timeout:     uint32(min(max(c.Timeout/time.Millisecond, 1), math.MaxInt32)),
		PackID:      d.pack,
	}
	if len(c.Data) == 0 {
		f.header.Direction = directionNone
		return
	}
	pin.Pin(&c.Data[0]) // memory that is not Go's stays anyway
	f.header.Data, f.header.DataLen = uintptr(unsafe.Pointer(&c.Data[0])), uint32(len(c.Data))
}

// send issues the command of the frame, once, and returns when its answer has
// come. An error: there is no answer.
func (d *Device) send() error {
	fd := d.fd()
	if !d.ioctl {
		_, err := unix.Write(fd, d.bytes())
		switch {
		case err == nil:
			return d.receive(fd)
		case errors.Is(err, unix.EPERM):
			d.ioctl = true // nothing was sent: another user opened this descriptor
		case errors.Is(err, unix.EINVAL): // nor here: it has no write, or the ioctl says the same
		default:
			return err
		}
	}
	return blocked(func() error {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), ioctlIO, uintptr(unsafe.Pointer(&d.frame.header)))
		if errno != 0 {
			return errno
		}
		return nil
	})
}

// receive waits for the answer to the command that was written.
func (d *Device) receive(fd int) error {
	want := d.frame.header.PackID
	for {
		_, err := unix.Read(fd, d.bytes())
		if errors.Is(err, unix.EINTR) {
			continue // the command runs on
		}
		if err == nil && d.frame.header.PackID != want {
			err = fmt.Errorf("an answer to command %d came, not to %d", d.frame.header.PackID, want)
		}
		d.broken = err
		return err
	}
}

// bytes is the header as write and read take it.
func (d *Device) bytes() []byte {
	return d.page.Bytes()[:unsafe.Sizeof(header{})]
}

// blocked runs f with all signals of its thread blocked, those too that the C
// library keeps for itself.
func blocked(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const size = 8 // of the kernel's signal set
	all, old := ^uint64(0), uint64(0)
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK,
		uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&old)), size, 0, 0)
	if errno != 0 {
		return fmt.Errorf("block signals: %w", errno)
	}
	err := f()
	_, _, errno = unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK,
		uintptr(unsafe.Pointer(&old)), 0, size, 0, 0)
	if errno != 0 {
		panic("sg: the mask of signals cannot be restored: " + errno.Error())
	}
	return err
}
