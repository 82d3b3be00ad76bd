// Package loop makes a block device of an open file, with the kernel's loop
// driver: a thin shell over ioctls and sysfs, without policy.
//
// # Attaching
//
// LOOP_CONFIGURE (Linux 5.8) does it in one step; older kernels get
// LOOP_SET_FD and LOOP_SET_STATUS64, during which the device is visible
// without its partitions. A free number comes from LOOP_CTL_GET_FREE; another
// process may take it first, then the kernel says EBUSY and the next number is
// tried, [Attempts] times. In a container the node may be missing: it is made
// (block, major 7).
//
// The backing file and the node are used as plain descriptors. Opening them
// through package os would register them with the runtime's poller, and a
// backing file that this process serves itself through FUSE then deadlocks.
//
// # The life of a device
//
// With AutoClear the device ends with its last close. [Device] keeps the node
// open, so that the device lives at least as long as the process and a killed
// process frees it. Without other users it is free when Close returns; a
// mount or an open descriptor elsewhere keeps it until it ends.
//
// A device that is used elsewhere cannot be cleared: LOOP_CLR_FD then returns
// success, and only marks it to be cleared at the last close. So [Clear] looks
// until the device is free, and reports a [*BusyError] when it stays.
//
// # Errors
//
// [ErrFree] is wrapped for a device that nothing is attached to, ErrUnsupported
// of package errors where the system has no loop devices.
//
// # Source
//
// Linux: include/uapi/linux/loop.h, drivers/block/loop.c,
// Documentation/ABI/testing/sysfs-block-loop. Measured on Linux 6.18: flags
// given to LOOP_CONFIGURE come back from LOOP_GET_STATUS64; READ_ONLY is added
// for a node or a file that was opened for reading.
package loop

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// Major is the device number's major part of all loop devices.
const Major = 7

// Attempts is how often Attach looks for a free number.
const Attempts = 16

// NameLen is the room for Options.Name in bytes.
const NameLen = 63

// ErrFree is wrapped when nothing is attached to a device.
var ErrFree = errors.New("loop device is free")

// BusyError reports a device that did not become free in time. The kernel
// clears it when its last user closes it.
type BusyError struct{ Path string }

func (e *BusyError) Error() string {
	return e.Path + " is still in use and is released at its last close"
}

// Options says how a file becomes a device.
type Options struct {
	ReadOnly  bool
	AutoClear bool
	PartScan  bool // look for partitions and make /dev/loopNpM
	DirectIO  bool // bypass the page cache of the backing file
	BlockSize int  // logical block in bytes; 0 is 512
	ReadAhead int  // bytes that sequential reads are ahead; 0 is the kernel's choice
	Name      string
	Number    int // of the device; AnyNumber takes a free one

	twoSteps bool // as on kernels without LOOP_CONFIGURE
}

// AnyNumber asks for any free device.
const AnyNumber = -1

// Status is what the kernel knows about an attached device.
type Status struct {
	Number                                  int
	ReadOnly, AutoClear, PartScan, DirectIO bool
	Name                                    string // Options.Name, cut to NameLen bytes
	BackingDevice, BackingInode             uint64 // st_dev, as the kernel encodes it, and st_ino of the file
}

// Path is the node of a loop device.
func Path(number int) string { return "/dev/loop" + strconv.Itoa(number) }

// ParseNumber reads a loop device's number from a path like /dev/loop3, from a
// partition's path like /dev/loop3p1, or from a plain number.
func ParseNumber(s string) (int, error) {
	digits := s
	if base := filepath.Base(s); strings.HasPrefix(s, "/dev/") && strings.HasPrefix(base, "loop") {
		digits, _, _ = strings.Cut(strings.TrimPrefix(base, "loop"), "p")
	}
	n, err := strconv.ParseUint(digits, 10, 20) // the kernel has 20 bits for minors
	if err != nil {
		return 0, fmt.Errorf("%q is not a loop device: want /dev/loopN or a number", s)
	}
	return int(n), nil
}

// Same reports whether two states are of one attachment.
func (s Status) Same(o Status) bool {
	return s.Number == o.Number && s.BackingDevice == o.BackingDevice && s.BackingInode == o.BackingInode && s.Name == o.Name
}
