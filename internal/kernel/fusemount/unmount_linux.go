package fusemount

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// Unmount takes away what is mounted on path; lazily, it goes out of sight at
// once and ends with its last user. What is in use otherwise wraps [ErrBusy].
// Nothing mounted is no error.
func Unmount(ctx context.Context, path string, lazy bool) error {
	if os.Geteuid() == 0 {
		flags := unix.UMOUNT_NOFOLLOW
		if lazy {
			flags |= unix.MNT_DETACH
		}
		err := unix.Unmount(path, flags)
		switch {
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
			return nil
		case errors.Is(err, unix.EBUSY):
			return fmt.Errorf("unmount %s: %w", path, ErrBusy)
		case err != nil:
			return fmt.Errorf("unmount %s: %w", path, err)
		}
		return nil
	}
	if on, err := Mounted(path); err != nil || !on {
		return err
	}
	args := []string{"-u", "--", path}
	if lazy {
		args = []string{"-u", "-z", "--", path}
	}
	helper := "fusermount3"
	if _, err := exec.LookPath(helper); err != nil {
		helper = "fusermount"
	}
	out, err := exec.CommandContext(ctx, helper, args...).CombinedOutput()
	if err == nil {
		return nil
	}
	if on, e := Mounted(path); e == nil && !on {
		return nil
	}
	if bytes.Contains(out, []byte("busy")) { // it is not translated
		return fmt.Errorf("unmount %s: %w", path, ErrBusy)
	}
	return fmt.Errorf("unmount %s: %w: %s", path, err, bytes.TrimSpace(out))
}
