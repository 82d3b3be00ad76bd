package sg

import (
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/scsi"
)

// errTimeout is the host adapter's word for it.
var errTimeout = errors.New("the kernel aborted the command")

// Of the kernel's own status.
const (
	driverMask    = 0x0f
	driverTimeout = 0x06
	driverSense   = 0x08 // comes with every check condition, and is no error of its own
)

const hostTimeout = 3

// hostStatus are the host adapter's words, DID_* of the kernel.
var hostStatus = map[uint16]string{
	0x01: "no connection to the device",
	0x02: "the bus stayed busy",
	0x04: "there is no such target",
	0x05: "the command was aborted",
	0x06: "a parity error",
	0x07: "an error of the host adapter",
	0x08: "the device or its bus was reset",
	0x09: "an unexpected interrupt",
	0x0b: "the host adapter gave the command up",
	0x0d: "the host adapter wants it again",
	0x0e: "the transport was disrupted",
	0x0f: "the transport failed",
}

// result reads what became of a command from the header that came back.
func (f *frame) result(op scsi.Opcode, asked int) (n int, err error) {
	h := &f.header
	moved := asked - int(h.Resid)
	sound := moved >= 0 && moved <= asked
	switch driver := h.DriverStatus & driverMask; {
	case h.HostStatus == hostTimeout || driver == driverTimeout:
		return 0, &scsi.TransportError{Op: op, Timeout: true, Err: errTimeout}
	case h.HostStatus != 0:
		what, ok := hostStatus[h.HostStatus]
		if !ok {
			what = fmt.Sprintf("the host adapter says %#x", h.HostStatus)
		}
		return 0, &scsi.TransportError{Op: op, Err: errors.New(what)}
	case scsi.Status(h.Status) == scsi.CheckCondition || driver == driverSense && h.SenseLen > 0:
		sense, err := scsi.ParseSense(op, f.sense[:min(int(h.SenseLen), len(f.sense))])
		if err != nil {
			return 0, &scsi.TransportError{Op: op, Err: fmt.Errorf("the device reports an error that is not readable: %w", err)}
		}
		if !sound {
			moved = 0
		}
		return moved, sense
	case h.Status != 0:
		return 0, &scsi.StatusError{Op: op, Status: scsi.Status(h.Status)}
	case driver != 0 && driver != driverSense:
		return 0, &scsi.TransportError{Op: op, Err: fmt.Errorf("the kernel's driver says %#x", h.DriverStatus)}
	case !sound:
		return 0, &scsi.TransportError{Op: op, Err: fmt.Errorf("%d of %d bytes are said not to have been moved", h.Resid, asked)}
	}
	return moved, nil
}
