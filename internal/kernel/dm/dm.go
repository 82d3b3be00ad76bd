// Package dm makes, lists and removes device-mapper devices: a thin shell over the
// ioctls of /dev/mapper/control, without dmsetup and without policy.
//
// # A device
//
// It has a name, perhaps a UUID, and a table: [Target] values that follow each other
// without gaps, in sectors of 512 bytes. [Control.Create] makes it in three steps (create,
// load the table, resume) or not at all; [Control.Remove] fails while it is open.
// Nothing here keeps state: what exists, the kernel knows.
//
// # Bytes of a call
//
// All integers are those of the machine. 312 bytes come first, the rest of the
// buffer follows at data start.
//
//	offset  size  field
//	0       12    version of the interface, 3 numbers: 4 0 0
//	12      4     size of the whole buffer
//	16      4     data start, 312
//	20      4     number of targets
//	24      4     how often the device is open, signed
//	28      4     flags
//	32      4     number of events; in calls that send a uevent: what udev is told
//	40      8     device number
//	48      128   name, ended by a zero
//	176     129   UUID, ended by a zero
//
// A target has 40 bytes and its parameters, ended by a zero and padded to 8:
//
//	0       8     first sector
//	8       8     sectors
//	16      4     status
//	20      4     where the next one is: from this one when a table is loaded, from the first when it is read
//	24      16    type, ended by a zero
//
// An answer that does not fit sets a flag; the call is made again with more room, up
// to MaxAnswer.
//
// # udev
//
// libdm waits for udev with semaphores whose number is the low half of the event
// number. Here that half is zero, so nobody waits for us; the upper half says that the
// event is a primary one, and that udev shall make the node below /dev/mapper but not look
// into the device: it belongs to a guest. If udev runs, its node is waited for; if
// it does not, or does not make one, the node is made here and taken away by Remove.
//
// # Errors
//
// [ErrNoDriver] is a kernel without device-mapper, [*NoTargetError] one without
// a type of target, [ErrExists] and [ErrNotFound] are about names, [ErrBusy] is a device that
// is open, or a device below that something else has for itself. fs.ErrPermission is
// wrapped for who is not root. On systems other than Linux everything is
// errors.ErrUnsupported.
//
// # Source
//
// Linux: include/uapi/linux/dm-ioctl.h, drivers/md/dm-ioctl.c; the flags for udev:
// lvm2, libdm/libdevmapper.h and udev/10-dm.rules.
package dm

import (
	"errors"
	"fmt"
	"strings"
)

// Sector is the unit of tables in bytes, whatever the devices have.
const Sector = 512

// Dir is where the nodes are.
const Dir = "/dev/mapper"

// Errors that callers tell apart.
var (
	ErrNoDriver = fmt.Errorf("this kernel has no device-mapper (try modprobe dm-mod): %w", errors.ErrUnsupported)
	ErrExists   = errors.New("a device-mapper device of that name or UUID exists already")
	ErrNotFound = errors.New("no such device-mapper device")
	ErrBusy     = errors.New("in use")
)

// NoTargetError reports a type of target that the kernel does not have.
type NoTargetError struct{ Type string }

func (e *NoTargetError) Error() string {
	return fmt.Sprintf("this kernel's device-mapper has no target %s (try modprobe dm-%s)", e.Type, e.Type)
}

// Unwrap is errors.ErrUnsupported.
func (e *NoTargetError) Unwrap() error { return errors.ErrUnsupported }

// Target is a part of a table.
type Target struct {
	Start, Length uint64 // sectors
	Type          string
	Params        string
}

func (t Target) String() string {
	return fmt.Sprintf("%d %d %s %s", t.Start, t.Length, t.Type, t.Params)
}

// Info is what the kernel says of a device.
type Info struct {
	Name, UUID string
	Device     uint64 // its number, as stat has it
	Open       int    // how often it is open, devices on top of it included
	ReadOnly   bool
	Active     bool // it has a table
}

// Named is one of all devices.
type Named struct {
	Name   string
	Device uint64
}

// CheckName reports whether a name is one that udev and the kernel take as it is.
func CheckName(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("the name %.150q of a device-mapper device has %d bytes, from 1 to %d are possible", name, len(name), maxName)
	}
	if name == "." || name == ".." || name == "control" {
		return fmt.Errorf("a device-mapper device cannot be named %q", name)
	}
	for _, c := range []byte(name) {
		if !strings.ContainsRune("#+-.:=@_", rune(c)) && !isAlphanumeric(c) {
			return fmt.Errorf("the name %q of a device-mapper device has the character %q: letters, digits and # + - . : = @ _ are possible", name, c)
		}
	}
	return nil
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// Path is the node of a device.
func Path(name string) string { return Dir + "/" + name }
