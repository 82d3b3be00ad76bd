package ext

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// FS is a file system in an image.
type FS struct {
	sb      *super
	disk    *disk
	notices []string
	odd     atomic.Int64 // entries left out, since their names are none
}

var _ fsread.FS = (*FS)(nil)

// Open reads the superblock and, where the file system was in use, its journal.
// It is [fsread.ErrOther] if img holds something else.
func Open(img image.Image) (*FS, error) {
	sb, err := readSuper(img)
	if err != nil {
		return nil, err
	}
	f := &FS{sb: sb, disk: newDisk(img, sb)}
	if sb.incompat&incompatRecover != 0 {
		over, err := f.replay()
		if err != nil {
			return nil, err
		}
		f.notices = append(f.notices, over.notice())
		if f, err = f.replayed(over); err != nil {
			return nil, err
		}
	} else if sb.state&stateClean == 0 {
		f.notices = append(f.notices, "the file system was not unmounted and has no journal: files that were written last may be incomplete")
	}
	if sb.state&stateFailed != 0 {
		f.notices = append(f.notices, "the file system is marked as damaged: e2fsck was never run since")
	}
	return f, nil
}

// replayed is the file system after its journal, which may have changed anything.
func (f *FS) replayed(over overlay) (*FS, error) {
	img := f.disk.img
	f.disk.over = over
	sb, err := readSuper(f.disk)
	if err != nil {
		return nil, fmt.Errorf("after its journal: %w", err)
	}
	after := &FS{sb: sb, disk: newDisk(img, sb), notices: f.notices}
	if sb.blockSize != f.sb.blockSize {
		return nil, fsread.Corrupt(layer, "the journal changes the size of blocks")
	}
	after.disk.over = over
	return after, nil
}

// About says what the superblock says.
func (f *FS) About() fsread.About {
	a := f.sb.about()
	a.Notices = append(a.Notices, f.notices...)
	if n := f.odd.Load(); n > 0 {
		a.Notices = append(a.Notices, fmt.Sprintf("entries of directories left out so far, whose names no file can have: %d", n))
	}
	return a
}

// Root is the root directory.
func (f *FS) Root() fsread.ID { return fsread.ID{Number: rootInode} }

// used is an inode that a directory may lead to.
func (f *FS) used(id fsread.ID) (*inode, error) {
	if id.Tree != 0 || id.Number > math.MaxUint32 || id.Number < uint64(f.sb.firstInode) && id.Number != rootInode {
		return nil, fsread.Corrupt(layer, "inode %d is not a file's", id.Number)
	}
	n, err := f.inode(uint32(id.Number))
	if err != nil {
		return nil, err
	}
	if n.links == 0 || n.kind() == fsread.Unknown || n.flags&flagEAInode != 0 {
		return nil, fsread.Corrupt(layer, "inode %d is in a directory and is not a file's (mode %o, %d links)", n.num, n.mode, n.links)
	}
	return n, nil
}

// Stat is what the inode says.
func (f *FS) Stat(id fsread.ID) (fsread.Stat, error) {
	n, err := f.used(id)
	if err != nil {
		return fsread.Stat{}, err
	}
	return n.stat(), nil
}

// ReadDir lists a directory, in the order of its blocks.
func (f *FS) ReadDir(dir fsread.ID, fn func(fsread.Entry) error) error {
	n, err := f.directory(dir)
	if err != nil {
		return err
	}
	return f.entries(n, fn)
}

// Lookup finds a name.
func (f *FS) Lookup(dir fsread.ID, name string) (fsread.Entry, error) {
	n, err := f.directory(dir)
	if err != nil {
		return fsread.Entry{}, err
	}
	switch {
	case !possible(name):
		return fsread.Entry{}, fsread.ErrNotExist
	case n.flags&flagCasefold != 0 && f.sb.incompat&incompatCasefold != 0:
		return f.lookupFolded(dir, name)
	case f.indexed(n):
		e, ok, err := f.lookupIndexed(n, name)
		if ok || err != nil && !fsread.IsCorrupt(err) {
			return e, err
		}
	}
	return fsread.LookupLinear(f, dir, name)
}

func (f *FS) lookupFolded(dir fsread.ID, name string) (fsread.Entry, error) {
	if f.sb.encoding != utf8Encoding {
		return fsread.Entry{}, fsread.Unsupported(layer, "encoding %d of names", f.sb.encoding)
	}
	e, err := fsread.LookupLinear(f, dir, name)
	if !errors.Is(err, fsread.ErrNotExist) {
		return e, err
	}
	want := fold(name)
	return fsread.LookupFunc(f, dir, func(e fsread.Entry) bool { return fold(e.Name) == want })
}

// Readlink reads the target of a symbolic link: from the inode if it fits in,
// else from its block.
func (f *FS) Readlink(id fsread.ID) (string, error) {
	n, err := f.used(id)
	switch {
	case err != nil:
		return "", err
	case n.kind() != fsread.Symlink:
		return "", fsread.ErrNotSymlink
	case n.flags&flagEncrypt != 0:
		return "", fsread.Unsupported(layer, "inode %d: an encrypted symbolic link", n.num)
	case n.size > min(f.sb.blockSize, maxTarget):
		return "", fsread.Corrupt(layer, "inode %d: a symbolic link of %d bytes", n.num, n.size)
	case f.fast(n):
		if n.size >= blockArea {
			return "", fsread.Corrupt(layer, "inode %d: a symbolic link of %d bytes without blocks", n.num, n.size)
		}
		return target(n, n.area()[:n.size])
	}
	c, err := f.content(n)
	if err != nil {
		return "", err
	}
	b := make([]byte, n.size)
	if err := fsread.ReadFull(c, layer, b, 0); err != nil {
		return "", err
	}
	return target(n, b)
}

func target(n *inode, b []byte) (string, error) {
	if len(b) == 0 || bytes.IndexByte(b, 0) >= 0 {
		return "", fsread.Corrupt(layer, "inode %d: a symbolic link to %q", n.num, b)
	}
	return string(b), nil
}

// maxTarget is what the kernel takes as a path.
const maxTarget = 4096

// fast reports that a link's target takes the place of block numbers. Where
// values of attributes may have inodes of their own, blocks do not tell.
func (f *FS) fast(n *inode) bool {
	if n.flags&flagInline != 0 {
		return false
	}
	if f.sb.incompat&incompatEAInode != 0 {
		return n.size < blockArea
	}
	blocks := int64(le.Uint32(n.raw[0x1c:])) // of 512 bytes
	if le.Uint32(n.raw[sizeHigh-4:]) != 0 {
		blocks -= f.sb.cluster / 512
	}
	return blocks == 0
}

// Open gives the content of a regular file.
func (f *FS) Open(id fsread.ID) (image.Image, error) {
	n, err := f.used(id)
	switch {
	case err != nil:
		return nil, err
	case n.kind() != fsread.Regular:
		return nil, fsread.ErrNotRegular
	case n.flags&flagEncrypt != 0:
		return nil, fsread.Unsupported(layer, "inode %d: an encrypted file", n.num)
	case n.flags&flagVerity != 0:
		return nil, fsread.Unsupported(layer, "inode %d: a file with fs-verity", n.num)
	}
	return f.content(n)
}
