package filemeta

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests that package unix lacks. Directions are encoded differently on some
// machines; those of FS_IOC_GETFLAGS and FS_IOC_SETFLAGS show how.
const (
	directions = 0xe000_0000
	iocRead    = unix.FS_IOC_GETFLAGS & directions
	iocWrite   = unix.FS_IOC_SETFLAGS & directions

	getFAT     = iocRead | 4<<16 | 'r'<<8 | 0x10
	setFAT     = iocWrite | 4<<16 | 'r'<<8 | 0x11
	getFsxattr = iocRead | fsxattrSize<<16 | 'X'<<8 | 31
	setFsxattr = iocWrite | fsxattrSize<<16 | 'X'<<8 | 32

	fsxattrSize = 28
)

// fsxattr is the kernel's struct of this name.
type fsxattr struct {
	xflags, extsize, nextents, projid, cowextsize uint32
	_                                             [8]byte
}

func getFlags(fd int, request uint) (uint32, error) { return unix.IoctlGetUint32(fd, request) }

func setFlags(fd int, request uint, flags uint32) error {
	return ioctl(fd, request, unsafe.Pointer(&flags))
}

func (x *fsxattr) get(fd int) error { return ioctl(fd, getFsxattr, unsafe.Pointer(x)) }
func (x *fsxattr) set(fd int) error { return ioctl(fd, setFsxattr, unsafe.Pointer(x)) }

func ioctl(fd int, request uint, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(arg))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}
