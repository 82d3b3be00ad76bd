package mount

import (
	"errors"
	"io/fs"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// server answers the kernel.
type server struct {
	fuse.RawFileSystem
	a      *pxar.Archive
	o      Options
	kernel uint64 // what it can do

	complaints complaints
	dirs       recent[*pxar.Dir]
	parents    recent[node]
	contents   recent[*content]
	parked     parked
}

// forever is how long attributes and names hold: an archive's never change.
const forever = 1 << 31 // seconds

func newServer(a *pxar.Archive, o Options) *server {
	return &server{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		a:             a,
		o:             o,
		complaints:    complaints{a: a, log: o.Log},
		dirs:          newRecent[*pxar.Dir](64),
		parents:       newRecent[node](16 << 10),
		contents:      newRecent[*content](1024),
	}
}

func (s *server) String() string { return "holdfast" }

// failed logs an error, which is an input/output error for who asked.
func (s *server) failed(what string, n node, err error) fuse.Status {
	s.complaints.add(what, n, err)
	return fuse.EIO
}

// dir opens the directory with this number.
func (s *server) dir(n node) (*pxar.Dir, error) {
	if n == root {
		return s.a.Root(), nil
	}
	if d, ok := s.dirs.get(n); ok {
		return d, nil
	}
	d, err := s.a.DirAt(n.pos())
	if err == nil && !heavy(&d.Entry().Metadata) {
		s.dirs.put(n, d)
	}
	return d, err
}

// heavy reports whether metadata takes so much memory that it is not to be kept.
func heavy(m *pxar.Metadata) bool {
	n := len(m.FCaps)
	for _, x := range m.Xattrs {
		n += len(x.Name) + len(x.Value)
	}
	if a := m.ACL; a != nil {
		n += 16 * (len(a.Users) + len(a.Groups) + len(a.DefaultUsers) + len(a.DefaultGroups))
	}
	return n > 64<<10
}

// entry reads what has this number.
func (s *server) entry(n node) (*pxar.Entry, error) {
	if !n.isDir() {
		return s.a.EntryAt(n.pos())
	}
	d, err := s.dir(n)
	if err != nil {
		return nil, err
	}
	return d.Entry(), nil
}

// attr fills in the attributes of an entry that is no hard link.
func (s *server) attr(e *pxar.Entry, n node, out *fuse.Attr) {
	out.Nlink = 1
	if e.Kind == pxar.File {
		out.Nlink = s.o.Links.of(e.Offset)
	}
	uid, gid := s.owner(e)
	out.Ino, out.Mode, out.Owner = uint64(n), e.Mode, fuse.Owner{Uid: uid, Gid: gid}
	switch e.Kind {
	case pxar.File:
		out.Size = uint64(e.Size)
		out.Blocks = (out.Size + 511) / 512
	case pxar.Symlink:
		out.Size = uint64(len(e.Target))
	case pxar.CharDevice, pxar.BlockDevice:
		out.Rdev = rdev(e.Device)
	}
	out.Mtime, out.Mtimensec = uint64(e.Mtime.Sec), e.Mtime.Nsec
	out.Atime, out.Atimensec = out.Mtime, out.Mtimensec
	out.Ctime, out.Ctimensec = out.Mtime, out.Mtimensec
	out.Blksize = blockSize
}

// blockSize is what programs are told to read at a time: as much as the kernel
// reads ahead.
const blockSize = 128 << 10

// rdev is a device number as the kernel's 32 bits hold it, with 12 bits of major
// and 20 of minor number.
func rdev(d pxar.Device) uint32 {
	minor := uint32(d.Minor)
	return minor&0xff | uint32(d.Major)&0xfff<<8 | minor&0xfff00<<12
}

func (s *server) owner(e *pxar.Entry) (uid, gid uint32) {
	other := func(ids func(uint32) (uint32, bool), id uint32) uint32 {
		if ids == nil {
			return id
		}
		if id, ok := ids(id); ok {
			return id
		}
		return nobody
	}
	return other(s.o.Users, e.UID), other(s.o.Groups, e.GID)
}

const nobody = 65534 // as in the kernel

// shift replaces the ids within attributes.
func (s *server) shift(m *pxar.Metadata) {
	same := func(id uint32) (uint32, bool) { return id, true }
	users, groups := s.o.Users, s.o.Groups
	if users == nil && groups == nil {
		return
	}
	if users == nil {
		users = same
	}
	if groups == nil {
		groups = same
	}
	filemeta.Shift(m, users, groups)
}

// found fills in what a name leads to. Hard links are followed.
func (s *server) found(e *pxar.Entry, parent node, out *fuse.EntryOut) error {
	e, err := s.a.Resolve(e)
	if err != nil {
		return err
	}
	n := nodeOf(e)
	s.attr(e, n, &out.Attr)
	if n.isDir() {
		s.parents.put(n, parent)
	}
	out.NodeId, out.EntryValid, out.AttrValid = uint64(n), forever, forever
	return nil
}

// Lookup finds a name. One that does not exist is found too, as number 0: the
// kernel remembers that.
func (s *server) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	parent := node(h.NodeId)
	d, err := s.dir(parent)
	if err != nil {
		return s.failed("open directory", parent, err)
	}
	e, err := d.Lookup(name)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrInvalid):
		out.EntryValid = forever
		return fuse.OK
	case err != nil:
		return s.failed("lookup in", parent, err)
	}
	if err := s.found(e, parent, out); err != nil {
		return s.failed("lookup", otherNode(e.Offset), err)
	}
	return fuse.OK
}

// GetAttr is asked for the root, and for what the kernel has forgotten.
func (s *server) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	n := node(in.NodeId)
	e, err := s.entry(n)
	if err != nil {
		return s.failed("stat", n, err)
	}
	s.attr(e, n, &out.Attr)
	out.AttrValid = forever
	return fuse.OK
}

// Readlink returns the target of a symbolic link.
func (s *server) Readlink(_ <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	n := node(h.NodeId)
	e, err := s.entry(n)
	switch {
	case err != nil:
		return nil, s.failed("readlink", n, err)
	case e.Kind != pxar.Symlink:
		return nil, fuse.EINVAL
	case len(e.Target) >= unix.PathMax:
		return nil, fuse.Status(syscall.ENAMETOOLONG)
	}
	return []byte(e.Target), fuse.OK
}

// StatFs says how large the archive is, and that nothing is free.
func (s *server) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	const block = 4096
	*out = fuse.StatfsOut{Blocks: (uint64(s.a.Size()) + block - 1) / block, Bsize: block, Frsize: block, NameLen: MaxName}
	return fuse.OK
}

// Init learns what the kernel can do.
func (s *server) Init(k *fuse.Server) { s.kernel = k.KernelSettings().Flags64() }

// Open is not needed: the kernel asks once, never again, and keeps what it has
// read. The same goes for OpenDir, since Linux 5.1, and Flush.
func (s *server) Open(_ <-chan struct{}, _ *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	return s.unneeded(fuse.CAP_NO_OPEN_SUPPORT)
}

// OpenDir is Open for directories.
func (s *server) OpenDir(_ <-chan struct{}, _ *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_CACHE_DIR
	return s.unneeded(fuse.CAP_NO_OPENDIR_SUPPORT)
}

func (s *server) unneeded(capability uint64) fuse.Status {
	if s.kernel&capability != 0 && !s.o.oldKernel {
		return fuse.ENOSYS
	}
	return fuse.OK
}

// Flush is not needed.
func (s *server) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }
