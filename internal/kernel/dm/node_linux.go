package dm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	miscMajor    = 10
	controlMinor = 236                 // the one that loads the module when it is opened
	udevControl  = "/run/udev/control" // as libudev finds out whether udev runs
	udevWait     = 3 * time.Second
)

// openControl opens the control node, and makes it where it is missing.
func openControl() (int, error) {
	path := Dir + "/control"
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if !errors.Is(err, unix.ENOENT) {
		return fd, explain(path, err)
	}
	minor, known := miscMinor("/proc/misc", "device-mapper")
	if !known && os.Geteuid() != 0 {
		return -1, ErrNoDriver // to load it, or make a node, is root's
	}
	if err := errors.Join(os.MkdirAll(Dir, 0o755), mknod(path, unix.S_IFCHR, unix.Mkdev(miscMajor, minor))); err != nil {
		return -1, fmt.Errorf("make the missing node %s: %w", path, err)
	}
	fd, err = unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil && !known {
		_ = os.Remove(path) // it leads nowhere
	}
	return fd, explain(path, err)
}

func explain(path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("device-mapper is for root: open %s: %w", path, err)
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return ErrNoDriver
	}
	return fmt.Errorf("open %s: %w", path, err)
}

// miscMinor looks a driver's number up in the kernel's list.
func miscMinor(table, driver string) (minor uint32, known bool) {
	b, _ := os.ReadFile(table) // without it nothing is known
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) != 2 || f[1] != driver {
			continue
		}
		if n, err := strconv.ParseUint(f[0], 10, 20); err == nil {
			return uint32(n), true
		}
	}
	return controlMinor, false
}

func mknod(path string, kind uint32, dev uint64) error {
	err := unix.Mknod(path, kind|0o600, int(dev))
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// nodeIs reports whether a node leads to a device.
func nodeIs(path string, dev uint64) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK && uint64(st.Rdev) == dev
}

// makeNode waits for udev's node, or makes one.
func makeNode(ctx context.Context, i Info) error {
	path := Path(i.Name)
	if waitForUdev(ctx, func() bool { return nodeIs(path, i.Device) }) {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := os.MkdirAll(Dir, 0o755); err != nil {
		return err
	}
	if nodeIs(path, i.Device) {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a device that is gone
		return err
	}
	if err := mknod(path, unix.S_IFBLK, i.Device); err != nil {
		return fmt.Errorf("make the node %s: %w", path, err)
	}
	return nil
}

// removeNode waits until udev took the node away, or does so.
func removeNode(ctx context.Context, i Info) error {
	path := Path(i.Name)
	gone := func() bool {
		_, err := os.Lstat(path)
		return errors.Is(err, fs.ErrNotExist)
	}
	// The device is gone, so this happens even if nobody waits any more.
	if waitForUdev(ctx, gone) || gone() {
		return nil
	}
	var st unix.Stat_t
	if unix.Stat(path, &st) == nil && uint64(st.Rdev) != i.Device {
		return nil // somebody else made a device of that name meanwhile
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// waitForUdev waits until udev did something; false if it does not run, or not
// in time.
func waitForUdev(ctx context.Context, done func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, udevWait)
	defer cancel()
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		if _, err := os.Stat(udevControl); err != nil {
			return false
		}
		if done() {
			return true
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return false
		}
	}
}
