package tree

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// step is what an item does to the archive.
type step uint8

const (
	add   step = iota // an entry that is no directory
	enter             // a directory begins
	leave             // it ends
	none              // nothing: it could not be had
)

// item is one step of the archive. The walker makes it, one reader fills it in,
// and the encoder writes it.
type item struct {
	step  step
	typ   uint8 // d_type
	dir   *dir  // that holds it
	entry pxar.Entry
	id    fileID
	links uint64      // that the file system counts
	stat  unix.Stat_t // of a regular file, when it was opened

	old    *pxar.Entry // of the base; nil: none with this name
	reuse  bool        // it is as it was then, and was not read
	todo   bool        // a reader is to fill it in
	again  bool        // it is to be read after all
	target *linked     // it is a further name of this file
	first  *linked     // it is the first name of this file
	fd     int         // of a file that the encoder reads; -1: none
	whole  bool        // content is all of it
	body   []byte      // content
	faults []Problem
	fatal  error
}

// fileID names a file of this machine.
type fileID struct{ dev, ino uint64 }

func idOf(st *unix.Stat_t) fileID { return fileID{st.Dev, st.Ino} }

// newBatch returns a batch with room for n items.
func newBatch(n int) *batch {
	return &batch{items: make([]item, 0, n), done: make(chan struct{})}
}

// batch is a run of items that one reader works on.
type batch struct {
	items []item
	arena []byte // of contents, from spare
	done  chan struct{}
}

const (
	batchItems = 32
	arenaSize  = 512 << 10 // of one batch
	smallFile  = 128 << 10
)

// reader fills in items.
type reader struct {
	s   *scan
	buf []byte // of names in directories, targets of links
}

// fill does all for an item that can be done before its turn.
func (r *reader) fill(b *batch, it *item) {
	it.todo = false
	if it.again {
		r.reopen(b, it)
		return
	}
	defer it.dir.release()
	if it.typ != unix.DT_REG && it.typ != unix.DT_UNKNOWN {
		r.special(it)
		return
	}
	fd, err := openFile(it.dir.fd, it.entry.Name)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV) {
		r.special(it) // a link, a socket, a device
		return
	}
	r.opened(b, it, fd, err)
	if it.entry.Kind == 0 && it.step == add {
		r.special(it)
	}
}

// opened looks at a file that should be a regular one, and reads it if it is
// small and its content cannot be taken over.
func (r *reader) opened(b *batch, it *item, fd int, err error) {
	it.entry.Kind = 0
	if err != nil {
		it.leftOut(err)
		return
	}
	it.fd = fd
	keep := false
	defer func() {
		if !keep {
			_ = unix.Close(fd)
			it.fd = -1
		}
	}()
	if err := unix.Fstat(fd, &it.stat); err != nil {
		it.leftOut(err)
		return
	}
	if it.stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return
	}
	if slices.Contains(r.s.outputs, idOf(&it.stat)) {
		it.step = none
		return
	}
	r.metadata(it, fd)
	if it.step == none || it.fatal != nil {
		return
	}
	it.entry.Kind, it.entry.Size = pxar.File, it.stat.Size
	it.id, it.links = idOf(&it.stat), uint64(it.stat.Nlink)
	if it.old != nil && it.old.Kind == pxar.File && it.old.Size == it.entry.Size && it.old.Equal(&it.entry.Metadata) {
		it.reuse = true
		return
	}
	switch size := it.entry.Size; {
	case size == 0:
		it.whole = true
	case b != nil && it.links == 1 && size <= smallFile && r.read(b, it):
	default:
		keep = true
		_ = unix.Fadvise(fd, 0, 0, unix.FADV_SEQUENTIAL) // only advice
		_ = unix.Fadvise(fd, 0, min(size, 8<<20), unix.FADV_WILLNEED)
	}
}

// read reads a small file into the arena of its batch, if that has room.
func (r *reader) read(b *batch, it *item) bool {
	size := int(it.entry.Size)
	if b.arena == nil {
		b.arena = r.s.arena()
	}
	if size >= cap(b.arena)-len(b.arena) { // one more byte shows growth
		return false
	}
	buf := b.arena[len(b.arena) : len(b.arena)+size+1]
	n, err := io.ReadFull(descriptor(it.fd), buf)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	switch {
	case err != nil:
		it.fault(Damaged, fmt.Errorf("read at offset %d: %w", n, err))
	case n < size:
		it.fault(Shrunk, nil)
	case n > size:
		it.fault(Grew, nil)
	default:
		it.still(it.fd)
	}
	it.body = buf[:min(n, size)]
	it.whole = len(it.body) == size
	b.arena = b.arena[:len(b.arena)+len(it.body)]
	return true
}

// still reports a file that changed since it was opened.
func (it *item) still(fd int) {
	var now unix.Stat_t
	if err := unix.Fstat(fd, &now); err != nil {
		return // what was read is right
	}
	if now.Mtim != it.stat.Mtim || now.Size != it.stat.Size {
		it.fault(Changed, nil)
	}
}

// special looks at what is neither file nor directory, without opening it.
func (r *reader) special(it *item) {
	var st unix.Stat_t
	if err := unix.Fstatat(it.dir.fd, it.entry.Name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		it.leftOut(err)
		return
	}
	e := &it.entry
	e.Kind = pxar.KindOf(st.Mode)
	if slices.Contains(r.s.o.LeaveOutKinds, e.Kind) {
		it.step = none
		return
	}
	e.Metadata = pxar.Metadata{
		Mode: st.Mode, UID: st.Uid, GID: st.Gid, Mtime: pxar.Time{Sec: st.Mtim.Sec, Nsec: uint32(st.Mtim.Nsec)},
	}
	r.s.shift(it)
	switch e.Kind {
	case pxar.Symlink:
		n, err := unix.Readlinkat(it.dir.fd, e.Name, r.buf)
		switch {
		case err != nil:
			it.leftOut(err)
		case n == 0 || n > pxar.MaxName:
			it.fault(Unreadable, fmt.Errorf("its target has %d bytes", n))
			it.step = none
		default:
			e.Target = string(r.buf[:n])
		}
	case pxar.CharDevice, pxar.BlockDevice:
		e.Device = pxar.DeviceOf(st.Rdev)
	case pxar.FIFO, pxar.Socket:
	default: // a directory or file took its place
		it.fault(Vanished, errors.New("something else has its name now"))
		it.step = none
	}
}

// metadata reads all that the file system knows of an open file or directory.
func (r *reader) metadata(it *item, fd int) {
	fs := it.dir.fs
	if it.stat.Dev != it.dir.dev { // a file may be a mount point
		var err error
		if fs, err = r.s.fsOf(fd, it.stat.Dev); err != nil {
			it.leftOut(err)
			return
		}
	}
	r.s.metadata(it, fs, fd)
}

// metadata does the same for a known file system.
func (s *scan) metadata(it *item, fs *filemeta.FS, fd int) {
	err := fs.Read(fd, &it.stat, &it.entry.Metadata)
	switch {
	case errors.Is(err, filemeta.ErrXattrsTooBig):
		if !s.o.SkipHugeXattrs {
			it.fatal = fmt.Errorf("%s: %w", it.path(), err)
			return
		}
		it.fault(Incomplete, err)
	case err != nil:
		it.fault(Incomplete, err)
	}
	it.dropHuge()
	leaveOut(&it.entry.Metadata, s.o.LeaveOut)
	s.shift(it)
}

// leaveOut takes kinds of metadata away.
func leaveOut(m *pxar.Metadata, kinds filemeta.Set) {
	if kinds.Has(filemeta.Xattrs) {
		m.Xattrs = nil
	}
	if kinds.Has(filemeta.FCaps) {
		m.FCaps = nil
	}
	if !kinds.Has(filemeta.ACLs) || m.ACL == nil {
		return
	}
	if m.ACL.GroupObj != nil { // the group bits are the mask: they would allow the group more
		m.Mode = m.Mode&^0o070 | uint32(*m.ACL.GroupObj)<<3
	}
	m.ACL = nil
}

// dropHuge leaves out attributes that the format has no room for.
func (it *item) dropHuge() {
	kept := it.entry.Xattrs[:0]
	for _, x := range it.entry.Xattrs {
		if len(x.Name)+1+len(x.Value) > pxar.MaxXattr {
			it.fault(Incomplete, fmt.Errorf("attribute %s of %d bytes is left out: the format has no room for it", x.Name, len(x.Value)))
			continue
		}
		kept = append(kept, x)
	}
	it.entry.Xattrs = kept
}

// shift replaces the owners by those inside of a container.
func (s *scan) shift(it *item) {
	if s.o.IDs == nil {
		return
	}
	m := &it.entry.Metadata
	uid, gid := s.o.IDs.Users().ToContainer, s.o.IDs.Groups().ToContainer
	lost := filemeta.ShiftIn(m, uid, gid)
	if lost.Has(filemeta.Owner) {
		m.UID, m.GID = orNobody(uid(m.UID)), orNobody(gid(m.GID))
	}
	if lost != 0 {
		it.fault(Unmapped, nil)
	}
}

// nobody is what the kernel shows in a container for ids outside of its map.
const nobody = 65534

func orNobody(id uint32, ok bool) uint32 {
	if ok {
		return id
	}
	return nobody
}

func (it *item) path() string { return it.dir.path(it.entry.Name) }

func (it *item) fault(k ProblemKind, err error) {
	it.faults = append(it.faults, Problem{k, it.path(), err})
}

// shorten makes a path fit into a sentence.
func shorten(path string) string {
	const most = 300
	if len(path) <= most {
		return path
	}
	return path[:most/2] + "…" + path[len(path)-most/2:]
}

// leftOut says why an entry is not archived, or that nothing can go on.
func (it *item) leftOut(err error) {
	it.step = none
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ESTALE):
		it.fault(Vanished, nil)
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOMEM):
		it.fatal = fmt.Errorf("%s: open: %w", shorten(it.path()), err)
	default:
		it.fault(Unreadable, err)
	}
}
