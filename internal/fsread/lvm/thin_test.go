package lvm

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// seal writes the place and the checksum of a block of a pool's metadata.
func seal(b []byte, at int, salt uint32) {
	le.PutUint64(b[8:], uint64(at))
	le.PutUint32(b, ^crc32.Update(0, castagnoli, b[4:])^salt)
}

// thinNode writes a node; pairs are keys and values.
func thinNode(meta []byte, at int, kind uint32, pairs ...uint64) {
	const room = 252
	b := meta[at*thinBlock:][:thinBlock]
	clear(b)
	le.PutUint32(b[4:], kind)
	le.PutUint32(b[16:], uint32(len(pairs)/2))
	le.PutUint32(b[20:], room)
	le.PutUint32(b[24:], 8)
	for i := 0; i+1 < len(pairs); i += 2 {
		le.PutUint64(b[nodeHead+4*i:], pairs[i])
		le.PutUint64(b[nodeHead+8*room+4*i:], pairs[i+1])
	}
	seal(b, at, thinNodeSum)
}

// data is a value for a block of data.
func data(block uint64) uint64 { return block<<timeBits | 5 }

// pool is a group with a pool, whose metadata is the first 16 extents of a
// physical volume, with a tree for volume 7 of two levels:
//
//	blocks 0, 1, 3 and 100 to 102, in blocks of 64 KiB
func pool() []byte {
	volumes := logical("pool", segment(0, 8, "thin-pool", `metadata = "tmeta" pool = "tdata" chunk_size = 128`)) +
		logical("tmeta", segment(0, 16, "striped", `stripes = ["pv0", 0]`)) + logical("tdata", segment(0, 8, "striped", `stripes = ["pv0", 16]`)) +
		logical("a", segment(0, 200, "thin", `thin_pool = "pool" device_id = 7`)) +
		logical("new", segment(0, 200, "thin", `thin_pool = "pool" device_id = 8`))
	b := volumeOf(uuids[0], text(1, volumes), 512)
	for i := dataAt + 16*64<<10; i < len(b); i += 64 << 10 {
		copy(b[i:], fmt.Sprintf("block %d", (i-dataAt)/(64<<10)-16))
	}
	meta := b[dataAt:]
	le.PutUint64(meta[32:], thinMagic)
	le.PutUint32(meta[40:], 2)
	le.PutUint64(meta[320:], 1)
	le.PutUint32(meta[336:], 128)
	seal(meta[:thinBlock], 0, thinSuperSum)
	thinNode(meta, 1, nodeLeaf, 3, 9, 7, 2)
	thinNode(meta, 2, nodeInner, 0, 3, 50, 4)
	thinNode(meta, 3, nodeLeaf, 0, data(5), 1, data(6), 3, data(2))
	thinNode(meta, 4, nodeLeaf, 100, data(0), 101, data(1), 102, data(7))
	return b
}

func TestThinVolumesAreWhatTheirTreeSays(t *testing.T) {
	img, err := group(t, pool()).Open("a")
	if err != nil {
		t.Fatal(err)
	}
	want := map[int64]string{0: "block 5", 1: "block 6", 3: "block 2", 100: "block 0", 101: "block 1", 102: "block 7"}
	for _, i := range []int64{0, 1, 2, 3, 4, 49, 50, 99, 100, 101, 102, 103, 199, 3, 100} {
		b := make([]byte, 9)
		if _, err := img.ReadAt(b, i<<16); err != nil || string(bytes.TrimRight(b, " \x00")) != want[i] {
			t.Errorf("block %d: %q, %v; want %q", i, b, err, want[i])
		}
	}
	var kinds []string
	for off := int64(0); off < img.Size(); {
		e, err := image.ExtentAt(img, off)
		if err != nil || e.Offset != off || e.Length < 1 {
			t.Fatalf("%+v, %v", e, err)
		}
		kinds = append(kinds, fmt.Sprint(e.Length>>16, e.Kind))
		off = e.End()
	}
	if fmt.Sprint(kinds) != "[2 data 1 zero 1 data 46 zero 50 zero 2 data 1 data 97 zero]" {
		t.Errorf("%v", kinds)
	}
}

func TestThinVolumeThatWasNeverMadeIsRefused(t *testing.T) {
	if _, err := group(t, pool()).Open("new"); err == nil || fsread.IsCorrupt(err) {
		t.Error(err)
	}
}

func TestThinPoolsThatMakeNoSenseAreDamaged(t *testing.T) {
	for name, spoil := range map[string]func(meta []byte){
		"a checksum":         func(m []byte) { m[3*thinBlock+100] ^= 1 },
		"the superblock":     func(m []byte) { m[336] ^= 1 },
		"a node of another":  func(m []byte) { copy(m[3*thinBlock:], m[4*thinBlock:5*thinBlock]) },
		"a loop":             func(m []byte) { thinNode(m, 2, nodeInner, 0, 2) },
		"a long loop":        func(m []byte) { thinNode(m, 2, nodeInner, 0, 3); thinNode(m, 3, nodeInner, 0, 2) },
		"behind the end":     func(m []byte) { thinNode(m, 2, nodeInner, 0, 1<<40) },
		"data behind it":     func(m []byte) { thinNode(m, 3, nodeLeaf, 0, data(8)) },
		"no kind":            func(m []byte) { thinNode(m, 3, 0, 0, data(0)) },
		"an empty inner one": func(m []byte) { thinNode(m, 2, nodeInner) },
		"too many entries": func(m []byte) {
			le.PutUint32(m[3*thinBlock+16:], 300)
			seal(m[3*thinBlock:4*thinBlock], 3, thinNodeSum)
		},
	} {
		b := pool()
		spoil(b[dataAt:])
		img, err := group(t, b).Open("a")
		if err == nil {
			_, err = img.ReadAt(make([]byte, 10), 0)
		}
		if !fsread.IsCorrupt(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestThinPoolOfLargerBlocksThanLinuxHasIsDamaged(t *testing.T) {
	for sectors, damaged := range map[int64]bool{maxSectors: false, maxSectors + 128: true} {
		meta := pool()[dataAt:][:thinBlock]
		le.PutUint32(meta[336:], uint32(sectors))
		seal(meta, 0, thinSuperSum)
		p := &thinPool{meta: mem{bytes.NewReader(meta)}}
		if err := p.super(&section{values: map[string]any{"chunk_size": sectors}}); fsread.IsCorrupt(err) != damaged {
			t.Errorf("%d sectors: %v", sectors, err)
		}
	}
}

// Nodes with right checksums and anything in them.
func FuzzThinPool(f *testing.F) {
	f.Add(byte(3), []byte{32, 0, 1, 0})
	f.Add(byte(1), []byte{20, 0, 255, 255, 16, 0, 255, 255})
	f.Add(byte(0), []byte{65, 1, 1, 1})
	whole := pool()
	f.Fuzz(func(t *testing.T, which byte, changes []byte) {
		meta := bytes.Clone(whole[dataAt : dataAt+5*thinBlock])
		at := int(which % 5)
		b := meta[at*thinBlock:][:thinBlock]
		for ; len(changes) >= 4; changes = changes[4:] {
			off := int(le.Uint16(changes)) % (thinBlock - 1)
			b[off], b[off+1] = changes[2], changes[3]
		}
		salt := uint32(thinNodeSum)
		if at == 0 {
			salt = thinSuperSum
		}
		seal(b, at, salt)
		volume := append(append(bytes.Clone(whole[:dataAt]), meta...), whole[dataAt+len(meta):]...)
		v, err := Read(mem{bytes.NewReader(volume)})
		if err != nil {
			t.Fatal(err)
		}
		groups, _ := Assemble([]*Volume{v})
		img, err := groups[0].Open("a")
		if err != nil {
			return
		}
		p := make([]byte, 64<<10)
		for off := int64(0); off < img.Size(); off += 1 << 20 {
			_, _ = img.ReadAt(p, off)
			if e, err := image.ExtentAt(img, off); err == nil && (e.Length < 1 || e.End() > img.Size()) {
				t.Fatalf("%+v at %d", e, off)
			}
		}
	})
}
