package fusemount

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Abort ends the FUSE connection of the file system with the device number dev
// (st_dev of its file): requests that wait get an error, and the server is told
// that it is over. The control file system need not be mounted for root. A
// connection that is gone is no error.
func Abort(dev uint64) error {
	err := abort(dev)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("abort FUSE connection %d: %w", dev, err)
	}
	return nil
}

func abort(dev uint64) error {
	// The kernel names the connection by its own encoding of the number.
	name := fmt.Sprintf("%d/abort", unix.Major(dev)<<20|unix.Minor(dev))
	if err := writeOne(unix.AT_FDCWD, "/sys/fs/fuse/connections/"+name); err == nil {
		return nil
	}
	fs, err := unix.Fsopen("fusectl", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("the control file system: %w", err)
	}
	defer func() { _ = unix.Close(fs) }()
	if err := unix.FsconfigCreate(fs); err != nil {
		return fmt.Errorf("the control file system: %w", err)
	}
	root, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("the control file system: %w", err)
	}
	defer func() { _ = unix.Close(root) }()
	return writeOne(root, name)
}

func writeOne(dir int, path string) error {
	fd, err := unix.Openat(dir, path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	_, err = unix.Write(fd, []byte("1"))
	return err
}
