package inside

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ioctl hands memory of p's layout to the kernel.
func ioctl(f *os.File, request uintptr, p unsafe.Pointer) error {
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(p)); e != 0 {
		return e
	}
	return nil
}

// btrfsArgs is struct btrfs_ioctl_vol_args.
type btrfsArgs struct {
	fd   int64
	name [4088]byte
}

const btrfsScanDev = 0x50009404 // BTRFS_IOC_SCAN_DEV

func btrfsScan(control *os.File, dev string) error {
	var a btrfsArgs
	copy(a.name[:len(a.name)-1], dev)
	return ioctl(control, btrfsScanDev, unsafe.Pointer(&a)) //nolint:gosec // the kernel's structure
}
