package mount

import (
	"encoding/binary"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// Requests and flags that package unix lacks. The highest three bits of a
// request say that it reads, on some machines in another way.
const (
	readsData    = unix.FS_IOC_GETFLAGS & 0xe000_0000
	getFsxattr   = readsData | fsxattrSize<<16 | 'X'<<8 | 31
	getFAT       = readsData | 4<<16 | 'r'<<8 | 0x10
	fsxattrSize  = 28
	offProjectID = 12
)

// xflags are attributes as FS_IOC_FSGETXATTR returns them.
var xflags = [...]struct {
	archive uint64
	kernel  uint32
}{
	{pxar.FlagImmutable, 0x8},
	{pxar.FlagAppend, 0x10},
	{pxar.FlagSync, 0x20},
	{pxar.FlagNoAtime, 0x40},
	{pxar.FlagNoDump, 0x80},
	{pxar.FlagProjectInherit, 0x200},
}

// Ioctl answers who asks for attributes: lsattr, and backups of the mount.
func (s *server) Ioctl(_ <-chan struct{}, in *fuse.IoctlIn, _ []byte, _ *fuse.IoctlOut, out []byte) fuse.Status {
	const notForUs = fuse.Status(syscall.ENOTTY)
	need := 4
	switch in.Cmd {
	case unix.FS_IOC_GETFLAGS, getFAT:
	case getFsxattr:
		need = fsxattrSize
	default:
		return notForUs
	}
	if len(out) < need {
		return fuse.EINVAL
	}
	n := node(in.NodeId)
	e, err := s.entry(n)
	if err != nil {
		return s.failed("ioctl", n, err)
	}
	clear(out)
	var flags uint32
	switch in.Cmd {
	case unix.FS_IOC_GETFLAGS:
		flags = filemeta.InodeFlags(e.Flags)
	case getFAT:
		if flags = filemeta.FATFlags(e.Flags); flags == 0 {
			return notForUs // as on a file system that has none
		}
	case getFsxattr:
		for _, f := range xflags {
			if e.Flags&f.archive != 0 {
				flags |= f.kernel
			}
		}
		binary.NativeEndian.PutUint32(out[offProjectID:], uint32(e.ProjectID))
	}
	binary.NativeEndian.PutUint32(out, flags)
	return fuse.OK
}
