package btrfs

import (
	"cmp"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// Profiles of chunks.
const (
	profileStriped = 0x8 | 0x40 | 0x80 | 0x100 // RAID 0, 10, 5, 6
)

// chunk maps a range of logical addresses.
type chunk struct {
	start, length uint64
	profile       uint64
	copies        []int64 // places on this device
}

// readChunks reads the chunks of the superblock, with them the chunk tree, and from
// it all.
func (f *FS) readChunks(b []byte) error {
	n := int64(le.Uint32(b[160:]))
	if n > maxFirst {
		return fsread.Corrupt(layer, "the superblock has %d bytes of chunks", n)
	}
	for first := b[firstChunks : firstChunks+n]; len(first) > 0; {
		if len(first) < keySize+chunkHeader {
			return fsread.Corrupt(layer, "a chunk of the superblock does not fit")
		}
		used := chunkHeader + chunkStripe*int(le.Uint16(first[keySize+44:]))
		if len(first) < keySize+used {
			return fsread.Corrupt(layer, "a chunk of the superblock does not fit")
		}
		c, err := f.parseChunk(le.Uint64(first[9:]), first[keySize:keySize+used])
		if err != nil {
			return err
		}
		f.chunks = append(f.chunks, c)
		first = first[keySize+used:]
	}
	sortChunks(f.chunks)
	var all []chunk
	tree := root{tree: treeChunks, at: le.Uint64(b[88:]), level: int(b[199])}
	err := f.each(tree, key{object: firstObject, kind: itemChunk}, func(k key, data []byte) (bool, error) {
		if k.object != firstObject || k.kind != itemChunk {
			return false, nil
		}
		if len(all) >= maxChunks {
			return false, fsread.Unsupported(layer, "more than %d chunks", maxChunks)
		}
		c, err := f.parseChunk(k.offset, data)
		all = append(all, c)
		return true, err
	})
	if err != nil {
		return err
	}
	sortChunks(all)
	for i := 1; i < len(all); i++ {
		if all[i-1].start+all[i-1].length > all[i].start {
			return fsread.Corrupt(layer, "the chunks at %d and %d overlap", all[i-1].start, all[i].start)
		}
	}
	f.chunks = all
	return nil
}

func sortChunks(all []chunk) {
	slices.SortFunc(all, func(a, b chunk) int { return cmp.Compare(a.start, b.start) })
}

func (f *FS) parseChunk(start uint64, b []byte) (chunk, error) {
	if len(b) < chunkHeader || len(b) < chunkHeader+chunkStripe*int(le.Uint16(b[44:])) {
		return chunk{}, fsread.Corrupt(layer, "the chunk at %d does not fit into its item", start)
	}
	c := chunk{start: start, length: le.Uint64(b), profile: le.Uint64(b[24:])}
	if c.length == 0 || c.length > 1<<62 || start > 1<<62 {
		return chunk{}, fsread.Corrupt(layer, "the chunk at %d has %d bytes", start, c.length)
	}
	for i := range int(le.Uint16(b[44:])) {
		s := b[chunkHeader+chunkStripe*i:]
		at := le.Uint64(s[8:])
		if le.Uint64(s) == f.device && at <= uint64(f.img.Size()) {
			c.copies = append(c.copies, int64(at))
		}
	}
	return c, nil
}

// place is where a logical address lies: the copies, and how many bytes follow
// there.
func (f *FS) place(logical uint64) (copies []int64, length int64, err error) {
	i, found := slices.BinarySearchFunc(f.chunks, logical, func(c chunk, at uint64) int { return cmp.Compare(c.start, at) })
	if !found {
		i--
	}
	if i < 0 || logical-f.chunks[i].start >= f.chunks[i].length {
		return nil, 0, fsread.Corrupt(layer, "no chunk holds the address %d", logical)
	}
	c := f.chunks[i]
	switch {
	case c.profile&profileStriped != 0:
		return nil, 0, fsread.Unsupported(layer, "a chunk of the profile %#x (RAID 0, 10, 5 or 6)", c.profile&profileStriped)
	case len(c.copies) == 0:
		return nil, 0, fsread.Unsupported(layer, "data on another device")
	}
	skip := int64(logical - c.start)
	for _, at := range c.copies {
		copies = append(copies, at+skip)
	}
	return copies, int64(c.length) - skip, nil
}
