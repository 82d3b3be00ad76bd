package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/volumeheader"
	"github.com/holdfast-backup/holdfast/internal/image/target"
	"github.com/holdfast-backup/holdfast/internal/kernel/blockdev"
	"github.com/holdfast-backup/holdfast/internal/kernel/fileops"
	"github.com/holdfast-backup/holdfast/internal/kernel/holders"
	"golang.org/x/sys/unix"
)

// locked is a device whose lock this process has. It is only read.
type locked struct {
	place
	node     string // without symbolic links
	rdev     uint64 // of a block device, else 0
	readOnly bool
	f        *os.File
}

// lock opens a block device or file and takes its lock.
func lock(ctx context.Context, path string, o Options) (*locked, error) {
	l, err := look(path)
	if err != nil {
		return nil, err
	}
	if err := l.flock(ctx, o.wait()); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// look opens a block device or file for reading.
func look(path string) (*locked, error) {
	node, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, sentence(path, err)
	}
	info, err := os.Stat(node)
	if err != nil {
		return nil, sentence(path, err)
	}
	l := &locked{place: place{path: path}, node: node}
	block := info.Mode()&fs.ModeDevice != 0 && info.Mode()&fs.ModeCharDevice == 0
	if !block && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is neither a block device nor a file: it cannot be a volume", path)
	}
	if l.f, err = os.Open(node); err != nil {
		return nil, sentence(path, err)
	}
	if err := l.measure(block); err != nil {
		l.close()
		return nil, sentence(path, err)
	}
	return l, nil
}

func (l *locked) measure(block bool) error {
	info, err := l.f.Stat()
	if err != nil {
		return err
	}
	if !block {
		l.size, l.logical = info.Size(), volumeheader.Sector
		return nil
	}
	g, err := blockdev.Inspect(l.f)
	if err != nil {
		return err
	}
	l.size, l.logical, l.readOnly = g.Size, int64(g.LogicalBlock), g.ReadOnly
	return fileops.Control(l.f, func(fd int) error {
		var st unix.Stat_t
		err := unix.Fstat(fd, &st)
		l.rdev = uint64(st.Rdev)
		return err
	})
}

// flock waits for the lock: other volume operations have it until they are done,
// udev while it looks at the device.
func (l *locked) flock(ctx context.Context, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := fileops.Control(l.f, func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("lock %s: %w", l.path, err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return l.busy()
			}
			return context.Cause(ctx)
		}
	}
}

func (l *locked) close() { _ = l.f.Close() } // was only read; the lock goes with it

// sector reads the header.
func (l *locked) sector() ([]byte, error) {
	b, err := readSector(l.f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.path, err)
	}
	return b, nil
}

// claim opens the device for changes, which nobody else can make then.
func (l *locked) claim() (*target.File, error) {
	f, err := l.exclusive(os.O_RDWR)
	if err != nil {
		return nil, err
	}
	t, err := target.NewExisting(f, l.size)
	if err != nil {
		_ = f.Close()
		if errors.Is(err, target.ErrBusy) {
			return nil, l.busy()
		}
		return nil, err
	}
	return t, nil
}

// exclusive opens the device, with nothing in the kernel's cache.
func (l *locked) exclusive(flag int) (*os.File, error) {
	if flag == os.O_RDWR && l.readOnly {
		return nil, fmt.Errorf("%s cannot be changed: %w", l.path, ErrReadOnly)
	}
	if l.rdev != 0 {
		flag |= os.O_EXCL // without O_CREATE: claim the device
	}
	f, err := os.OpenFile(l.node, flag, 0)
	switch {
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.ETXTBSY):
		return nil, l.busy()
	case errors.Is(err, unix.EROFS):
		return nil, fmt.Errorf("%s cannot be changed: %w", l.path, ErrReadOnly)
	case err != nil:
		return nil, sentence(l.path, err)
	}
	if err := l.same(f); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// same makes sure that the node still is the device whose lock we have.
func (l *locked) same(f *os.File) error {
	a, err := l.f.Stat()
	if err != nil {
		return err
	}
	b, err := f.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(a, b) {
		return fmt.Errorf("%s was exchanged for something else just now: try again", l.path)
	}
	if l.rdev == 0 {
		return nil
	}
	return blockdev.DropCache(f)
}

// busy says who uses the device.
func (l *locked) busy() error {
	var hs []holders.Holder
	if l.rdev != 0 {
		hs, _ = holders.OfDevice(filepath.Base(l.node), os.Getpid()) // what cannot be seen is not said
	} else {
		hs, _ = holders.OfFile(l.node, os.Getpid())
	}
	return &BusyError{Path: l.path, Holders: hs}
}

// sentence names the device and what to do.
func sentence(path string, err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		err = pe.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s does not exist (%w)", path, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("no permission to use %s: block devices are for root (%w)", path, err)
	case errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENOMEDIUM):
		return fmt.Errorf("%s has no device or no medium behind it (%w)", path, err)
	}
	return fmt.Errorf("%s: %w", path, err)
}
