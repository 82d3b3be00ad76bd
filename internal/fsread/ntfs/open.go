package ntfs

import (
	"fmt"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// FS is an NTFS.
type FS struct {
	img      image.Image
	sector   int64
	cluster  int64
	clusters int64
	record   int64 // bytes
	block    int64 // bytes of an index block, unless an index says otherwise
	mft      image.Image
	about    fsread.About

	mu    sync.Mutex
	cache map[uint64]*record // records that were read last, whole
}

var (
	_ fsread.FS       = (*FS)(nil)
	_ fsread.Streamer = (*FS)(nil)
)

// Open opens img if it holds an NTFS, and gives fsread.ErrOther else.
func Open(img image.Image) (*FS, error) {
	if img.Size() < 512 {
		return nil, fsread.ErrOther
	}
	b := make([]byte, 512)
	if err := fsread.ReadFull(img, layer, b, 0); err != nil {
		return nil, err
	}
	if string(b[3:11]) != "NTFS    " {
		return nil, fsread.ErrOther
	}
	f := &FS{img: img, sector: int64(le.Uint16(b[11:])), cache: map[uint64]*record{}}
	if f.sector < 256 || f.sector > 4096 || f.sector&(f.sector-1) != 0 {
		return nil, fsread.Corrupt(layer, "sectors of %d bytes", f.sector)
	}
	per := int64(b[13])
	if per > 0x80 {
		per = 1 << min(62, 256-per)
	}
	f.cluster = per * f.sector
	if per == 0 || per&(per-1) != 0 || f.cluster > 2<<20 || f.cluster < f.sector {
		return nil, fsread.Corrupt(layer, "clusters of %d sectors", b[13])
	}
	sectors := le.Uint64(b[40:])
	if sectors == 0 || sectors > uint64(img.Size()/f.sector) {
		return nil, fsread.Corrupt(layer, "the boot sector says %d sectors of %d bytes, the image has %d bytes", sectors, f.sector, img.Size())
	}
	f.clusters = int64(sectors) / per
	f.record, f.block = f.sizeOf(b[64]), f.sizeOf(b[68])
	if !blockSize(f.record) || !blockSize(f.block) {
		return nil, fsread.Corrupt(layer, "records of %d and index blocks of %d bytes", f.record, f.block)
	}
	f.about = fsread.About{Type: "ntfs", Size: int64(sectors) * f.sector, UUID: fmt.Sprintf("%016X", le.Uint64(b[72:]))}
	if err := f.openMFT(le.Uint64(b[48:])); err != nil {
		return nil, err
	}
	return f, f.describe()
}

// sizeOf reads a size in clusters, or as a negative power of two in bytes.
func (f *FS) sizeOf(b byte) int64 {
	if n := int8(b); n < 0 {
		return 1 << min(62, -int(n))
	}
	return int64(b) * f.cluster
}

func blockSize(n int64) bool { return n >= 512 && n <= maxBlock && n&(n-1) == 0 }

// openMFT finds the table with its own first record. Further records of the
// table's list of attributes lie in what was found so far.
func (f *FS) openMFT(first uint64) error {
	if first >= uint64(f.clusters) {
		return fsread.Corrupt(layer, "the MFT begins at cluster %d, there are %d", first, f.clusters)
	}
	b := make([]byte, f.record)
	if err := fsread.ReadFull(f.img, layer, b, int64(first)*f.cluster); err != nil {
		return err
	}
	base, err := f.parse(recMFT, b)
	if err != nil {
		return err
	}
	f.mft, err = f.stream(base.find(typeData, ""), "$MFT")
	if err != nil {
		return err
	}
	if base.first(typeList) == nil {
		return nil
	}
	// Extents of the table may be needed to find the next of its records.
	for tries := 0; tries < 64; tries++ {
		whole, err := f.load(recMFT)
		if err != nil {
			return err
		}
		mft, err := f.stream(whole.find(typeData, ""), "$MFT")
		if err != nil {
			return err
		}
		clear(f.cache)
		if f.mft = mft; whole.missing == 0 {
			return nil
		}
	}
	return fsread.Corrupt(layer, "the MFT is not to be found as a whole")
}

// describe reads the label and whether the volume is clean.
func (f *FS) describe() error {
	v, err := f.load(recVolume)
	if err != nil {
		return err
	}
	if a := v.first(typeLabel); a != nil && !a.nonresident {
		f.about.Label = utf16(a.value)
	}
	dirty := false
	if a := v.first(typeVolume); a != nil && len(a.value) >= 12 {
		dirty = le.Uint16(a.value[10:])&1 != 0
	}
	used, err := f.inUse()
	switch {
	case dirty || used:
		f.about.Notices = append(f.about.Notices, "was not unmounted; what is in its journal is not applied")
	case err != nil: // files can be read all the same
		f.about.Notices = append(f.about.Notices, fmt.Sprintf("may not have been unmounted, since its journal cannot be read: %v", err))
	}
	return nil
}

// About describes the file system.
func (f *FS) About() fsread.About { return f.about }

// Root is the root directory.
func (f *FS) Root() fsread.ID { return fsread.ID{Number: recRoot} }

func utf16(b []byte) string {
	u := make([]uint16, len(b)/2)
	for i := range u {
		u[i] = le.Uint16(b[2*i:])
	}
	return fsread.UTF16(u)
}
