package fusefile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/image"
)

// server answers the kernel. The root inode is the file.
type server struct {
	fuse.RawFileSystem
	img   image.Image
	dev   image.Device // nil: read-only
	flags uint32       // of open
	born  time.Time

	counters   counters
	complaints complaints
}

// forever is how long attributes hold: an image's never change.
const forever = 1 << 31 // seconds

func newServer(img image.Image, o Options) *server {
	s := &server{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		img:           img,
		dev:           writable(img, o),
		flags:         fuse.FOPEN_DIRECT_IO,
		born:          time.Now(),
		complaints:    complaints{log: o.Log},
	}
	if o.Cached {
		s.flags = fuse.FOPEN_KEEP_CACHE
	}
	return s
}

func (s *server) String() string { return "holdfast" }

func (s *server) attr(out *fuse.AttrOut) {
	mode := uint32(syscall.S_IFREG | 0o400)
	if s.dev != nil {
		mode |= 0o200
	}
	size := uint64(s.img.Size())
	out.Attr = fuse.Attr{
		Ino: fuse.FUSE_ROOT_ID, Size: size, Blocks: (size + 511) / 512, Blksize: MaxRequest,
		Mode: mode, Nlink: 1, Owner: fuse.Owner{Uid: uint32(os.Geteuid()), Gid: uint32(os.Getegid())},
	}
	out.SetTimes(&s.born, &s.born, &s.born)
	out.AttrValid = forever
}

func (s *server) GetAttr(_ <-chan struct{}, _ *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	s.attr(out)
	return fuse.OK
}

// SetAttr lets times be set, without keeping them; a size is fixed.
func (s *server) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	if s.dev == nil {
		return fuse.EROFS
	}
	if in.Valid&(fuse.FATTR_MODE|fuse.FATTR_UID|fuse.FATTR_GID) != 0 || in.Valid&fuse.FATTR_SIZE != 0 && in.Size != uint64(s.img.Size()) {
		return fuse.EPERM
	}
	s.attr(out)
	return fuse.OK
}

func (s *server) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if in.Flags&syscall.O_ACCMODE != syscall.O_RDONLY && s.dev == nil {
		return fuse.EROFS
	}
	out.OpenFlags = s.flags
	return fuse.OK
}

func (s *server) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	off, size := int64(in.Offset), s.img.Size()
	if off < 0 || off >= size {
		return fuse.ReadResultData(nil), fuse.OK
	}
	buf = buf[:min(int64(len(buf)), int64(in.Size), size-off)]
	n, err := s.img.ReadAt(buf, off)
	if n < len(buf) {
		if err == nil || errors.Is(err, io.EOF) {
			err = fmt.Errorf("%d of %d bytes: %w", n, len(buf), io.ErrUnexpectedEOF)
		}
		return nil, s.failed("read", off, int64(len(buf)), err)
	}
	s.counters.reads.Add(1)
	s.counters.readBytes.Add(int64(n))
	return fuse.ReadResultData(buf), fuse.OK
}

func (s *server) failed(what string, off, n int64, err error) fuse.Status {
	s.counters.errors.Add(1)
	s.complaints.add(what, off, n, err)
	if errors.Is(err, syscall.ENOSPC) {
		return fuse.Status(syscall.ENOSPC)
	}
	return fuse.EIO
}

func (s *server) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	if s.dev == nil {
		return 0, fuse.EROFS
	}
	off, size := int64(in.Offset), s.dev.Size()
	if off < 0 || off > size-int64(len(data)) {
		return 0, fuse.Status(syscall.ENOSPC)
	}
	if _, err := s.dev.WriteAt(data, off); err != nil {
		return 0, s.failed("write", off, int64(len(data)), err)
	}
	s.counters.writes.Add(1)
	s.counters.writeBytes.Add(int64(len(data)))
	return uint32(len(data)), fuse.OK
}

func (s *server) Fsync(_ <-chan struct{}, _ *fuse.FsyncIn) fuse.Status {
	if s.dev == nil {
		return fuse.OK
	}
	if err := s.dev.Flush(); err != nil {
		return s.failed("flush", 0, s.dev.Size(), err)
	}
	return fuse.OK
}

// Flush is a close(2), not a sync.
func (s *server) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.OK }

func (s *server) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	if s.dev == nil {
		return fuse.EROFS
	}
	off, n, size := int64(in.Offset), int64(in.Length), s.dev.Size()
	if off < 0 || n < 0 || off > size-n {
		return fuse.Status(syscall.ENOSPC)
	}
	switch in.Mode &^ unix.FALLOC_FL_KEEP_SIZE {
	case 0:
		return fuse.OK // space is the device's own matter
	case unix.FALLOC_FL_PUNCH_HOLE, unix.FALLOC_FL_ZERO_RANGE:
		if err := s.dev.Zero(off, n); err != nil {
			return s.failed("zero", off, n, err)
		}
		return fuse.OK
	}
	return fuse.Status(syscall.EOPNOTSUPP)
}

// Lseek finds data and holes. What the image does not know is data.
func (s *server) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	off, size := int64(in.Offset), s.img.Size()
	if off < 0 || off >= size || in.Whence != unix.SEEK_DATA && in.Whence != unix.SEEK_HOLE {
		return fuse.Status(syscall.ENXIO)
	}
	for off < size {
		e, err := image.ExtentAt(s.img, off)
		if err != nil {
			return s.failed("seek", off, 0, err)
		}
		if e.Length <= 0 || (e.Kind == image.Zero) == (in.Whence == unix.SEEK_HOLE) {
			break
		}
		off = e.End()
	}
	if off >= size && in.Whence == unix.SEEK_DATA {
		return fuse.Status(syscall.ENXIO)
	}
	out.Offset = uint64(min(off, size)) // the end counts as a hole
	return fuse.OK
}

// StatFs gives the loop driver its granularity of discards.
func (s *server) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	const block = 4096
	*out = fuse.StatfsOut{Blocks: uint64((s.img.Size() + block - 1) / block), Files: 1, Bsize: block, Frsize: block, NameLen: 255}
	return fuse.OK
}
