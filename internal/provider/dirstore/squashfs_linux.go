package dirstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/kernel/loop"
)

// showSquashfs shows an archive as the directory dir, by a loop device of its
// own, which the kernel frees with the mount, however that ends. Nothing in
// it can be run, nor be used as a device.
func showSquashfs(ctx context.Context, file, dir string) (release func(context.Context) error, err error) {
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	device, err := loop.Attach(ctx, int(f.Fd()), loop.Options{ReadOnly: true, AutoClear: true, Number: loop.AnyNumber})
	if err != nil {
		return nil, fmt.Errorf("a squashfs archive needs a loop device: %w", err)
	}
	defer func() { err = errors.Join(err, device.Close()) }() // the mount holds it from now on
	if err := unix.Mount(device.Path(), dir, "squashfs", unix.MS_RDONLY|unix.MS_NODEV|unix.MS_NOSUID|unix.MS_NOEXEC, ""); err != nil {
		return nil, fmt.Errorf("mount a squashfs archive, which needs root and a kernel that has squashfs: %w", err)
	}
	return func(ctx context.Context) error { return unmount(ctx, dir) }, nil
}

// unmount waits a little for those who still look at the directory, and then
// takes it from their sight.
func unmount(ctx context.Context, dir string) error {
	for range 20 {
		err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW)
		if err == nil || errors.Is(err, unix.EINVAL) { // not mounted, or not any more
			return nil
		}
		if !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("unmount %s: %w", dir, err)
		}
		select {
		case <-time.After(100 * time.Millisecond):
			continue
		case <-ctx.Done():
		}
		break
	}
	if err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	return nil
}
