package target

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/holdfast-backup/holdfast/internal/kernel/fileops"
	"golang.org/x/sys/unix"
)

// directMin is the shortest read or write that goes past the kernel's cache: a shorter
// one costs more in waiting than the copy.
const directMin = 256 << 10

// direct is a second descriptor of a file, for writing past the kernel's
// cache. What is restored is seldom read soon, must be on the disk at the end
// anyway, and would push out what others need; and taking fresh memory for it
// can cost more than all else: 2.5 GiB in a virtual machine whose free memory
// is the host's took 6 s of system time through the cache, and takes 0.5 s.
type direct struct {
	f     *os.File
	align int64       // no page has a part in the cache and another written here
	block int64       // what reads are aligned to; 0: what is read is likely to be in the cache
	off   atomic.Bool // it does not work here
}

// openDirect returns nil where that cannot be had. A device is read past the cache too,
// in multiples of its block: its cache is another one than that of what is on top of it, or
// below, and filling it for one reading costs more than the reading.
func openDirect(f *os.File, block int64) *direct {
	var fd int
	err := fileops.Control(f, func(old int) (err error) {
		fd, err = unix.Open(fmt.Sprintf("/proc/self/fd/%d", old), unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil
	}
	return &direct{f: os.NewFile(uintptr(fd), f.Name()), align: int64(os.Getpagesize()), block: block}
}

// before is how many bytes of p come before what can and should go this way.
func (d *direct) before(p []byte, off int64) int {
	if d == nil || d.off.Load() {
		return 0
	}
	n := int((d.align - off%d.align) % d.align)
	if len(p)-n < directMin {
		return 0
	}
	return n
}

// write writes as much of the start of p as can and should go this way.
func (d *direct) write(p []byte, off int64) (int, error) {
	if d == nil || d.off.Load() || off%d.align != 0 || len(p) < directMin {
		return 0, nil
	}
	n, err := d.f.WriteAt(p[:int64(len(p))/d.align*d.align], off)
	if errors.Is(err, unix.EINVAL) { // larger sectors, or memory that the device cannot reach
		d.off.Store(true)
		err = nil
	}
	return n, err
}

// read reads as much of the start of p as can and should come this way.
func (d *direct) read(p []byte, off int64) (int, error) {
	if d == nil || d.block == 0 || d.off.Load() || off%d.block != 0 || len(p) < directMin {
		return 0, nil
	}
	n, err := d.f.ReadAt(p[:int64(len(p))/d.block*d.block], off)
	if errors.Is(err, unix.EINVAL) {
		d.off.Store(true)
		err = nil
	}
	return n, err
}

func (d *direct) close() error {
	if d == nil {
		return nil
	}
	return d.f.Close()
}
