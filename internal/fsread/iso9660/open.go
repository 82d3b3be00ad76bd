package iso9660

import (
	"fmt"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// FS is an ISO 9660 image.
type FS struct {
	img    image.Image
	about  fsread.About
	block  int64
	root   int64 // place of the root's record
	joliet bool
	rock   bool
	skip   int // bytes before Rock Ridge in the room of a record
}

var _ fsread.FS = (*FS)(nil)

// Open opens img if it holds an ISO 9660 image, and gives fsread.ErrOther else.
func Open(img image.Image) (*FS, error) {
	f := &FS{img: img}
	var joliet int64
	b := make([]byte, sector)
	for n := int64(16); n < 16+64; n++ {
		if img.Size() < (n+1)*sector {
			break
		}
		if err := fsread.ReadFull(img, layer, b, n*sector); err != nil {
			return nil, err
		}
		if string(b[1:6]) != "CD001" {
			break
		}
		if b[0] == 255 {
			break
		}
		switch {
		case b[0] == 1 && f.root == 0:
			if err := f.first(b, n*sector); err != nil {
				return nil, err
			}
		case b[0] == 2 && b[88] == '%' && b[89] == '/' && strings.ContainsRune("@CE", rune(b[90])):
			joliet = n*sector + 156
		}
	}
	if f.root == 0 {
		return nil, fsread.ErrOther
	}
	if err := f.look(); err != nil {
		return nil, err
	}
	if !f.rock && joliet != 0 {
		f.root, f.joliet = joliet, true
	}
	return f, nil
}

// first reads the first volume descriptor.
func (f *FS) first(b []byte, at int64) error {
	f.root, f.block = at+156, int64(le.Uint16(b[128:]))
	if f.block < 512 || f.block > sector || f.block&(f.block-1) != 0 {
		return fsread.Corrupt(layer, "blocks of %d bytes", f.block)
	}
	size := int64(le.Uint32(b[80:])) * f.block
	f.about = fsread.About{Type: "iso9660", Size: min(size, f.img.Size()), Label: strings.TrimRight(string(b[40:72]), " \x00")}
	if size > f.img.Size() {
		f.about.Notices = append(f.about.Notices, fmt.Sprintf("is cut short: it says %d bytes, and there are %d", size, f.img.Size()))
	}
	d := b[813 : 813+16] // creation, which is also its UUID
	f.about.UUID = fmt.Sprintf("%s-%s-%s-%s-%s-%s-%s", d[:4], d[4:6], d[6:8], d[8:10], d[10:12], d[12:14], d[14:16])
	return nil
}

// look finds out whether the root has Rock Ridge.
func (f *FS) look() error {
	r, err := f.record(f.root)
	if err != nil {
		return err
	}
	b := make([]byte, 255)
	n := min(int64(len(b)), r.size, f.img.Size()-r.block*f.block)
	if n < 34 {
		return fsread.Corrupt(layer, "the root has %d bytes at block %d", r.size, r.block)
	}
	if err := fsread.ReadFull(f.img, layer, b[:n], r.block*f.block); err != nil {
		return err
	}
	if length := int64(b[0]); length >= 34+7 && length <= n {
		room := b[34:length]
		if string(room[:2]) == "SP" && room[2] == 7 && room[4] == 0xbe && room[5] == 0xef {
			f.rock, f.skip = true, int(room[6])
		}
	}
	return nil
}

// About describes the image.
func (f *FS) About() fsread.About {
	a := f.about
	a.Notices = append([]string(nil), a.Notices...)
	return a
}

// Root is the root directory.
func (f *FS) Root() fsread.ID { return fsread.ID{Number: uint64(f.root)} }
