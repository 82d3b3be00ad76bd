package loop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Read returns the state of the device with a number. A free or missing one
// is an error wrapping ErrFree.
func Read(number int) (Status, error) {
	fd, err := unix.Open(Path(number), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENXIO) {
		return Status{}, fmt.Errorf("%s: %w", Path(number), ErrFree)
	}
	if err != nil {
		return Status{}, fmt.Errorf("open %s: %w", Path(number), err)
	}
	defer func() { _ = unix.Close(fd) }()
	return status(fd, number)
}

func status(fd, number int) (Status, error) {
	i, err := unix.IoctlLoopGetStatus64(fd)
	if errors.Is(err, unix.ENXIO) {
		return Status{}, fmt.Errorf("%s: %w", Path(number), ErrFree)
	}
	if err != nil {
		return Status{}, fmt.Errorf("status of %s: %w", Path(number), err)
	}
	return Status{
		Number:        number,
		ReadOnly:      i.Flags&unix.LO_FLAGS_READ_ONLY != 0,
		AutoClear:     i.Flags&unix.LO_FLAGS_AUTOCLEAR != 0,
		PartScan:      i.Flags&unix.LO_FLAGS_PARTSCAN != 0,
		DirectIO:      i.Flags&unix.LO_FLAGS_DIRECT_IO != 0,
		Name:          unix.ByteSliceToString(i.File_name[:]),
		BackingDevice: i.Device,
		BackingInode:  i.Inode,
	}, nil
}

// Clear ends the attachment was of a device, which any process may do, and
// waits until it is free: a *BusyError after the context's end. A device that
// is free, or attached to something else by now, is left alone.
func Clear(ctx context.Context, was Status) error {
	d := &Device{number: was.Number}
	var err error
	if d.fd, err = unix.Open(d.Path(), unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENXIO) {
			return nil
		}
		return fmt.Errorf("open %s: %w", d.Path(), err)
	}
	now, err := d.Status()
	if errors.Is(err, ErrFree) || err == nil && !now.Same(was) {
		return d.Close()
	}
	if err != nil {
		_ = d.Close()
		return err
	}
	return d.Detach(ctx, was)
}

func waitFree(ctx context.Context, number int, was Status) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		now, err := Read(number)
		if errors.Is(err, ErrFree) || err == nil && !now.Same(was) {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", &BusyError{Path(number)}, context.Cause(ctx))
		}
	}
}

// Attached returns the numbers of all devices that something is attached to.
func Attached() ([]int, error) {
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, f := range files {
		if n, err := strconv.Atoi(strings.TrimPrefix(strings.Split(f, "/")[3], "loop")); err == nil {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// Size is the length of an attached device in bytes, by sysfs.
func Size(number int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/sys/block/loop%d/size", number))
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", Path(number), err)
	}
	sectors, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", Path(number), err)
	}
	return sectors * 512, nil
}

// Partitions returns the nodes of the partitions that the kernel found.
func Partitions(number int) ([]string, error) {
	name := "loop" + strconv.Itoa(number)
	entries, err := os.ReadDir("/sys/block/" + name)
	if err != nil {
		return nil, fmt.Errorf("partitions of %s: %w", Path(number), err)
	}
	var parts []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), name+"p") {
			parts = append(parts, "/dev/"+e.Name())
		}
	}
	return parts, nil
}
