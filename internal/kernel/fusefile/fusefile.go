// Package fusefile shows a disk image as one regular file, through FUSE: the
// file system's root is the file itself.
//
// [Anonymous] makes a file system that is mounted nowhere: only the descriptor
// that [File.Open] returns leads into it, so nothing is left when its last user
// is gone, however the server ended. It is what a loop device is attached to.
// [Mount] covers an existing regular file with it, for programs that need a
// path: as root by mount(2), otherwise through fusermount3.
//
// An image.Device is a writable file unless Options.ReadOnly is set; fsync is
// Flush. Every way to make zeros by fallocate is Zero, punching included: a
// punched hole reads as zeros, which Discard does not promise, and the loop
// driver punches for zeros as well as for discards. Holes are told to
// SEEK_DATA and SEEK_HOLE from the image's extents.
//
// # Failures
//
// A read that the image cannot serve is EIO for the reader, and a line in the
// log says why: at most one line a second, with the number of those that were
// left out. Nothing is returned short.
//
// # Traps
//
// The mounted file must never be opened by package os in the serving process:
// its poller would ask the file system while the answering thread waits.
// File.Open uses open(2). go-fuse's fs package wants a directory as its root,
// and WaitMount looks for a file below it; so only the raw interface is used.
//
// # Death
//
// When a process is killed, the kernel puts its descriptors' files on a list
// and releases the last one first (Linux 4.3 and later). If a loop device went
// before /dev/fuse, its release could wait for pages whose reads nobody
// answers, and never return. So /dev/fuse is moved to a high descriptor
// number, and a node that is opened later is below it.
//
// # Memory
//
// A request takes its length, at most [MaxRequest], and the kernel has at most
// [MaxBackground] reads ahead of time under way; direct reads are bounded by the
// loop driver's queue (128 requests), which one reader does not fill.
//
// # Source
//
// Linux: include/uapi/linux/fuse.h, fs/fuse, Documentation/filesystems/fuse.rst;
// libfuse: util/fusermount.c.
package fusefile

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-backup/holdfast/internal/image"
)

const (
	// MaxRequest is the longest read or write in bytes.
	MaxRequest = 1 << 20
	// MaxBackground is how many asynchronous requests the kernel has under way.
	MaxBackground = 32
)

// Options says how an image is shown.
type Options struct {
	Name     string // the source column of a mount table
	ReadOnly bool   // even if the image is a device
	// Cached lets the kernel keep the file's pages. It helps programs that
	// read a mounted file with small reads. Below a loop device it only doubles
	// the cache of the device.
	Cached bool
	// Dir is a private directory for the mount point that Anonymous needs for
	// a moment on kernels before 5.2.
	Dir string
	Log *slog.Logger

	oldMount bool // as on kernels without fsmount
}

// Counters are what was asked for since the start.
type Counters struct {
	Reads, ReadBytes   int64
	Writes, WriteBytes int64
	Errors             int64
}

type counters struct{ reads, readBytes, writes, writeBytes, errors atomic.Int64 }

func (c *counters) read() Counters {
	return Counters{
		Reads: c.reads.Load(), ReadBytes: c.readBytes.Load(),
		Writes: c.writes.Load(), WriteBytes: c.writeBytes.Load(),
		Errors: c.errors.Load(),
	}
}

// complaints logs failures, at most one a second.
type complaints struct {
	log *slog.Logger

	mu      sync.Mutex
	last    time.Time
	skipped int
}

func (c *complaints) add(what string, off, n int64, err error) {
	c.mu.Lock()
	if time.Since(c.last) < time.Second {
		c.skipped++
		c.mu.Unlock()
		return
	}
	skipped := c.skipped
	c.last, c.skipped = time.Now(), 0
	c.mu.Unlock()
	c.log.Error("mapped image: input/output error", "operation", what, "offset", off, "bytes", n, "reason", err, "not_logged", skipped)
}

// writable returns the image as a device that the options allow to be changed.
func writable(img image.Image, o Options) image.Device {
	if o.ReadOnly {
		return nil
	}
	d, _ := img.(image.Device)
	return d
}
