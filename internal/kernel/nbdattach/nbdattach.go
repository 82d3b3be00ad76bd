// Package nbdattach hands sockets to the kernel's NBD client, which makes a
// block device /dev/nbdN of them. What speaks on the other end of the socket is
// past the handshake: simple replies only, no TLS.
//
// # Generic netlink
//
// The family "nbd" takes a CONNECT with everything in it and answers with the
// index of the device; no process has to wait in the kernel. The kernel looks
// for a free device when no index is given. Integers are in the machine's byte
// order.
//
//	command        1 CONNECT  2 DISCONNECT  3 RECONFIGURE  4 LINK_DEAD  5 STATUS
//	attribute      1 INDEX u32              2 SIZE_BYTES u64
//	               3 BLOCK_SIZE_BYTES u64   4 TIMEOUT u64, seconds
//	               5 SERVER_FLAGS u64       6 CLIENT_FLAGS u64
//	               7 SOCKETS { 1 ITEM { 1 FD u32 } … }
//	               8 DEAD_CONN_TIMEOUT u64, seconds
//	               9 DEVICE_LIST { 1 ITEM { 1 INDEX u32, 2 CONNECTED u8 } … }
//	              10 BACKEND_IDENTIFIER string
//
// The family exists only in the first network namespace. Elsewhere, and on
// kernels before 4.12, the old ioctls do the same on a node that this process
// picks; one thread of the process then stays in NBD_DO_IT for the life of the
// device.
//
// # The life of a device
//
// [Device] keeps the node open and, where the kernel can (netlink),
// DISCONNECT_ON_CLOSE is set after that: a killed process closes the node as
// its last user, and the kernel disconnects. Set earlier, the flag would let a
// probing program's close end the device at birth. A device that is mounted
// outlives the process: its requests fail when the dead-connection timeout is
// over, and [Disconnect] frees it.
//
// As in package fusefile, the other end of the sockets must have a higher
// descriptor number than the node, so that a killed process loses it first.
//
// # Source
//
// Linux: include/uapi/linux/nbd.h, nbd-netlink.h, drivers/block/nbd.c.
package nbdattach

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// AnyIndex asks for any free device.
const AnyIndex = -1

// Flags of a server, as in the NBD handshake.
const (
	HasFlags     = 1 << 0
	ReadOnly     = 1 << 1
	SendFlush    = 1 << 2
	SendFUA      = 1 << 3
	SendTrim     = 1 << 5
	SendZeroes   = 1 << 6
	CanMultiConn = 1 << 8
)

// Flags of the client.
const (
	DestroyOnDisconnect = 1 << 0 // the device goes away, not only its connection
	DisconnectOnClose   = 1 << 1
)

var (
	// ErrFree is wrapped when a device is not connected.
	ErrFree = errors.New("nbd device is free")
	// ErrBusy is wrapped when a device did not become free or ready in time, or
	// the chosen one is taken.
	ErrBusy = errors.New("nbd device is in use")
)

// Options describe a connection.
type Options struct {
	Index       int   // of the device, or AnyIndex
	Size        int64 // bytes; the kernel rounds down to blocks
	BlockSize   int   // bytes, a power of two from 512 on; 0 is 512
	Timeout     time.Duration
	DeadTimeout time.Duration // how long requests wait for a dead socket's replacement; 0: not at all
	Flags       uint64        // HasFlags, ReadOnly, …
	ClientFlags uint64
	Identifier  string // shown as /sys/block/nbdN/backend (Linux 5.14)
	Sockets     []int  // connected stream sockets; the kernel takes its own references

	ioctl bool // do not ask netlink
}

// Status is what sysfs knows about a connected device.
type Status struct {
	Index      int
	PID        int // of the task that connected it
	Size       int64
	ReadOnly   bool
	Identifier string
}

// Path is the node of a device.
func Path(index int) string { return "/dev/nbd" + strconv.Itoa(index) }

// ParseIndex reads a device's index from a path like /dev/nbd3 or of a
// partition like /dev/nbd3p1.
func ParseIndex(path string) (int, error) {
	digits, ok := strings.CutPrefix(filepath.Base(path), "nbd")
	digits, _, _ = strings.Cut(digits, "p")
	n, err := strconv.ParseUint(digits, 10, 20)
	if !ok || err != nil {
		return 0, fmt.Errorf("%q is not an NBD device: want /dev/nbdN", path)
	}
	return int(n), nil
}

// seconds rounds up, because zero is off.
func seconds(d time.Duration) uint64 {
	if d <= 0 {
		return 0
	}
	return uint64((d + time.Second - 1) / time.Second)
}
