package squashfs

import (
	"sync"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// FS is a squashfs.
type FS struct {
	img    image.Image // the bytes that are used
	about  fsread.About
	block  int64
	root   uint64
	unpack unpacker

	inodes, directories int64
	owners, fragments   table
	attributes          table
	values              int64 // metadata of attributes

	mu    sync.Mutex
	meta  map[int64]*metaBlock
	tails map[int64][]byte // fragments that were unpacked last, by their place
}

var _ fsread.FS = (*FS)(nil)

// Open opens img if it holds a squashfs, and gives fsread.ErrOther else.
func Open(img image.Image) (*FS, error) {
	if img.Size() < superSize {
		return nil, fsread.ErrOther
	}
	b := make([]byte, superSize)
	if err := fsread.ReadFull(img, layer, b, 0); err != nil {
		return nil, err
	}
	switch string(b[:4]) {
	case "hsqs":
	case "sqsh":
		return nil, fsread.Unsupported(layer, "an image in big-endian, of version 3 or before")
	default:
		return nil, fsread.ErrOther
	}
	if major, minor := le.Uint16(b[28:]), le.Uint16(b[30:]); major != 4 || minor != 0 {
		return nil, fsread.Unsupported(layer, "version %d.%d", major, minor)
	}
	f := &FS{img: img, meta: map[int64]*metaBlock{}, tails: map[int64][]byte{}}
	if err := f.super(b); err != nil {
		return nil, err
	}
	st, err := f.Stat(f.Root())
	if err == nil && st.Kind != fsread.Directory {
		err = fsread.Corrupt(layer, "the root is no directory")
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (f *FS) super(b []byte) error {
	f.block = int64(le.Uint32(b[12:]))
	if f.block < minBlock || f.block > maxBlock || f.block&(f.block-1) != 0 || le.Uint16(b[22:]) > 20 || f.block != 1<<le.Uint16(b[22:]) {
		return fsread.Corrupt(layer, "blocks of %d bytes, which should be 2 to the power of %d", f.block, le.Uint16(b[22:]))
	}
	used := le.Uint64(b[40:])
	if used < superSize || used > uint64(f.img.Size()) {
		return fsread.Corrupt(layer, "the superblock says %d bytes, the image has %d", used, f.img.Size())
	}
	img, err := image.NewSection(f.img, 0, int64(used))
	if err != nil {
		return err
	}
	f.img, f.root = img, le.Uint64(b[32:])
	f.about = fsread.About{Type: "squashfs", Size: int64(used)}
	if f.unpack, err = newUnpacker(le.Uint16(b[20:]), f.block); err != nil {
		return err
	}
	at := func(off int) int64 { return int64(min(le.Uint64(b[off:]), 1<<62)) }
	f.inodes, f.directories = at(64), at(72)
	f.owners = table{at: at(48), entries: uint64(le.Uint16(b[26:])), size: 4}
	f.fragments = table{at: at(80), entries: uint64(le.Uint32(b[16:])), size: 16}
	return f.openAttributes(le.Uint64(b[56:]))
}

// About describes the file system.
func (f *FS) About() fsread.About { return f.about }

// Root is the root directory.
func (f *FS) Root() fsread.ID { return fsread.ID{Number: f.root} }
