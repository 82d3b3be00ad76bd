// Package mapping makes a block device, a file or a socket of a disk image and
// keeps its state so that a crash of anything leaves nothing behind.
//
// # Modes
//
//	loop    /dev/loopN on a FUSE file without a name; root
//	nbd     /dev/nbdN, the kernel's NBD client on a socket pair; root
//	file    a FUSE file in the run directory, or in place of a given file
//	socket  an NBD export on a unix socket; needs nothing
//
// [Map] returns when the device can be read. [Mapping.Serve] then waits until
// the mapping is to end: by the context, by [Unmap] in another process, or
// because its connection died.
//
// # Run directory
//
// [RunDir] is $HOLDFAST_RUN_DIR, or /run/holdfast/map for root and
// $XDG_RUNTIME_DIR/holdfast/map for others. It belongs to its user alone (0700). A mapping has
//
//	KEY.lock   held with flock, exclusively, for the daemon's life
//	KEY.json   the Record, replaced in one step
//	ID.ctl     unix socket of the daemon: status, stop
//	KEY.img    the mount point of mode file
//	ID.nbd     the socket of mode socket
//
// KEY is the name, escaped as systemd escapes unit names; a namespace and a
// name that is too long for a file name (255 bytes) add ~HASH. The name is
// REPO:SNAPSHOT/ARCHIVE, as the existing client forms it.
//
// A lock that can be had means that the daemon is dead, whatever its process
// number is used for today. A process is only ever killed through a pidfd, after
// its start time was compared. Who holds the lock may clean up, and removes the
// lock file last; who then gets a lock on a file that is no longer there opens
// it again.
//
// # What a killed daemon leaves
//
// Measured on Linux 6.18, kill -9, also with requests under way and with
// unwritten pages: within 50 ms the loop device is free and no mount is left.
// That takes the device's AUTOCLEAR with the daemon's own open node, a FUSE
// file system that is mounted nowhere, and the order of descriptors described
// in package fusefile. Without that order the dying process hangs, unkillable,
// until its FUSE connection is aborted (measured too). An NBD device
// disconnects with the daemon's close of its node (Linux 6.1, 100 ms). If it is
// in use, it outlives that: new requests fail after the dead-connection
// timeout, and those that the daemon had taken after the request timeout
// besides, or as soon as somebody cleans up. Files stay,
// and [Cleanup], [Unmap] or the next [Map] of the name removes them.
//
// # Locks and meetings
//
//	Map, Map       one gets the lock, the other a *MappedError
//	Map, Unmap     unmap finds no control socket yet: an error, or with force
//	               the daemon is killed
//	Map, Cleanup   cleanup skips what is locked; map waits a second for it
//	List, any      reads only; tests the lock shared, for an instant
//
// # Figures
//
// Two busy processors, an image in memory, 1 MiB reads of the loop device: with
// FOPEN_DIRECT_IO, LO_FLAGS_DIRECT_IO, FUSE_ASYNC_DIO and 4 MiB of read-ahead
// about 2.9 GB/s, with the default read-ahead of 128 KiB 0.9 GB/s, and 0.9
// GB/s with the kernel caching the file twice. Without LO_FLAGS_DIRECT_IO or
// FUSE_ASYNC_DIO the loop driver asks for one read at a time: eight readers of
// an image that takes 1 ms for each read get 800 a second, instead of 4700.
//
// # Other systems
//
// Only mode socket; the others wrap errors.ErrUnsupported.
package mapping

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/kernel/holders"
	"github.com/holdfast-backup/holdfast/internal/kernel/loop"
)

// Mode is what an image becomes.
type Mode string

// The modes.
const (
	Loop   Mode = "loop"
	NBD    Mode = "nbd"
	File   Mode = "file"
	Socket Mode = "socket"
)

// ParseMode reads a mode's name.
func ParseMode(s string) (Mode, error) {
	switch m := Mode(s); m {
	case Loop, NBD, File, Socket:
		return m, nil
	}
	return "", fmt.Errorf("unknown mode %q: want loop, nbd, file or socket", s)
}

// DefaultDeadTimeout is how long requests to an NBD device wait for a server
// that died.
const DefaultDeadTimeout = 10 * time.Second

// DefaultTimeout is how long the kernel's NBD client waits for an answer. It
// takes a server that is later for dead and does not return to it, so it is
// far longer than a slow repository needs.
const DefaultTimeout = 5 * time.Minute

// ReadAhead is how far sequential reads of a device are ahead, in bytes: one
// chunk.
const ReadAhead = 4 << 20

// Spec is what to map, and how.
type Spec struct {
	Repository, Namespace, Snapshot, Archive string
	Name                                     string // empty: Name of the four above
	Image                                    image.Image
	Mode                                     Mode
	Device                                   string        // loop, nbd: the node; socket, file: the path; empty: choose
	NoPartitions                             bool          // loop: do not look for partitions
	ReadOnly                                 bool          // also if the image is a device
	Timeout                                  time.Duration // nbd: of a request; 0: DefaultTimeout
	DeadTimeout                              time.Duration // nbd: of the server's absence; 0: DefaultDeadTimeout
	RunDir                                   string
	Stats                                    func() Counters // empty: what the mapping itself counts
	Log                                      *slog.Logger

	stage func(string) // tests: called when a step is done
}

// Counters are what was read and written through a mapping.
type Counters struct {
	Reads      int64 `json:"reads"`
	ReadBytes  int64 `json:"read-bytes"`
	Writes     int64 `json:"writes"`
	WriteBytes int64 `json:"write-bytes"`
	Errors     int64 `json:"errors"`
}

// Record is the state of a mapping on disk. Its JSON is only added to.
type Record struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Repository string    `json:"repository,omitempty"`
	Namespace  string    `json:"ns,omitempty"`
	Snapshot   string    `json:"snapshot,omitempty"`
	Archive    string    `json:"archive,omitempty"`
	Mode       Mode      `json:"mode"`
	Size       int64     `json:"size"`
	ReadOnly   bool      `json:"read-only"`
	Device     string    `json:"device,omitempty"` // modes loop and nbd
	Socket     string    `json:"socket,omitempty"` // mode socket
	Path       string    `json:"path,omitempty"`   // mode file
	PID        int       `json:"pid"`
	StartTime  uint64    `json:"start-time"` // field 22 of /proc/PID/stat, in clock ticks since boot
	Created    time.Time `json:"created"`
	Ready      bool      `json:"ready"`

	Loop     *loop.Status `json:"loop,omitempty"`      // what is attached, to be known again
	FUSE     uint64       `json:"fuse,omitempty"`      // device number of the FUSE file system
	MadePath bool         `json:"made-path,omitempty"` // Path did not exist before

	key string // of its files; not from the file
}

// Target is what to use: the device, the socket's URI, or the path.
func (r Record) Target() string {
	switch r.Mode {
	case Socket:
		return "nbd+unix:///?socket=" + r.Socket
	case File:
		return r.Path
	case Loop, NBD:
	}
	return r.Device
}

// State of a mapping.
type State string

// The states.
const (
	Live     State = "live"
	Starting State = "starting"
	Stale    State = "stale" // the daemon died
)

// Status is one line of a list.
type Status struct {
	Record
	State    State    `json:"state"`
	Counters Counters `json:"counters"` // zero when the daemon did not answer
}

// MappedError reports that a name is mapped already, or is about to be.
type MappedError struct {
	Name   string
	Record Record // zero while the other process has not written it
}

func (e *MappedError) Error() string {
	if !e.Record.Ready {
		return fmt.Sprintf("%s is being mapped or unmapped by another process", e.Name)
	}
	return fmt.Sprintf("%s is already mapped on %s (process %d)", e.Name, e.Record.Target(), e.Record.PID)
}

// BusyError reports a mapping that is in use.
type BusyError struct {
	Record  Record
	Holders []holders.Holder
}

func (e *BusyError) Error() string {
	who := "something that this process cannot see uses it"
	if len(e.Holders) > 0 {
		who = holders.Join(e.Holders)
	}
	return fmt.Sprintf("%s (%s) is in use: %s", e.Record.Target(), e.Record.Name, who)
}

// ErrNotMapped is wrapped when nothing of ours fits what was named.
var ErrNotMapped = errors.New("not mapped by holdfast")
