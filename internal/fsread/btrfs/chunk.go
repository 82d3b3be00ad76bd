package btrfs

import (
	"cmp"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// Profiles of chunks.
const (
	profileRAID0  = 0x8
	profileRAID1  = 0x10
	profileDUP    = 0x20
	profileRAID10 = 0x40
	profileRAID5  = 0x80
	profileRAID6  = 0x100
	profileRAID13 = 0x200 // three copies
	profileRAID14 = 0x400 // four

	profiles       = 0x7f8
	profileStriped = profileRAID0 | profileRAID10 | profileRAID5 | profileRAID6

	stripeLength = 64 << 10
)

// chunk maps a range of logical addresses.
type chunk struct {
	start, length uint64
	profile       uint64
	copies        int // of a stripe, next to each other: RAID 10
	stripes       []stripe
}

// stripe is a part of a device. dev is nil if that is missing.
type stripe struct {
	dev *device
	at  int64
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
	stripes := 0
	tree := root{tree: treeChunks, at: le.Uint64(b[88:]), level: int(b[199])}
	err := f.each(tree, key{object: firstObject, kind: itemChunk}, func(k key, data []byte) (bool, error) {
		if k.object != firstObject || k.kind != itemChunk {
			return false, nil
		}
		c, err := f.parseChunk(k.offset, data)
		if stripes += len(c.stripes); len(all) >= maxChunks || stripes > maxStripes {
			return false, fsread.Unsupported(layer, "more than %d chunks, or %d stripes of them", maxChunks, maxStripes)
		}
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
	c := chunk{start: start, length: le.Uint64(b), profile: le.Uint64(b[24:]) & profiles, copies: 1}
	n, size := int(le.Uint16(b[44:])), le.Uint64(b[16:])
	if c.length == 0 || c.length > 1<<62 || start > 1<<62 || n == 0 {
		return chunk{}, fsread.Corrupt(layer, "the chunk at %d has %d bytes in %d stripes", start, c.length, n)
	}
	least := 1
	switch c.profile {
	case 0, profileDUP, profileRAID1, profileRAID13, profileRAID14, profileRAID0:
	case profileRAID5:
		least = 2
	case profileRAID6:
		least = 3
	case profileRAID10:
		c.copies = int(le.Uint16(b[46:]))
		if c.copies < 1 || n%c.copies != 0 {
			return chunk{}, fsread.Corrupt(layer, "the chunk at %d has %d stripes in groups of %d", start, n, c.copies)
		}
	default:
		return chunk{}, fsread.Unsupported(layer, "a chunk of the profile %#x", c.profile)
	}
	if n < least || c.profile&profileStriped != 0 && size != stripeLength {
		return chunk{}, fsread.Corrupt(layer, "the chunk at %d of the profile %#x has %d stripes of %d bytes", start, c.profile, n, size)
	}
	for i := range n {
		s := b[chunkHeader+chunkStripe*i:]
		at := le.Uint64(s[8:])
		if at > 1<<62 {
			return chunk{}, fsread.Corrupt(layer, "the chunk at %d has a stripe at %d", start, at)
		}
		c.stripes = append(c.stripes, stripe{dev: f.deviceOf(le.Uint64(s), [16]byte(s[16:])), at: int64(at)})
	}
	return c, nil
}

// way is how bytes can be read: as they lie in one place, or as what all of several give
// together (exclusive or).
type way []stripe

// place is where a logical address lies: the ways to read it, the best one first, and
// how many bytes follow there.
func (f *FS) place(logical uint64) (ways []way, length int64, err error) {
	i, found := slices.BinarySearchFunc(f.chunks, logical, func(c chunk, at uint64) int { return cmp.Compare(c.start, at) })
	if !found {
		i--
	}
	if i < 0 || logical-f.chunks[i].start >= f.chunks[i].length {
		return nil, 0, fsread.Corrupt(layer, "no chunk holds the address %d", logical)
	}
	c := f.chunks[i]
	skip := int64(logical - c.start)
	ways, length = c.ways(skip)
	ways = slices.DeleteFunc(ways, func(w way) bool {
		return slices.ContainsFunc(w, func(s stripe) bool { return s.dev == nil })
	})
	if len(ways) == 0 {
		return nil, 0, fsread.Unsupported(layer, "data on a device that is not among the disks of the snapshot")
	}
	if f.uneven { // those last that may lack the last transaction
		slices.SortStableFunc(ways, func(a, b way) int { return cmp.Compare(b.oldest(), a.oldest()) })
	}
	return ways, min(length, int64(c.length)-skip), nil
}

func (w way) oldest() uint64 {
	g := w[0].dev.generation
	for _, s := range w[1:] {
		g = min(g, s.dev.generation)
	}
	return g
}

// ways are those to read what is at an offset of a chunk, with those that lack a device.
func (c *chunk) ways(off int64) (ways []way, length int64) {
	if c.profile&profileStriped == 0 {
		for _, s := range c.stripes {
			ways = append(ways, way{{s.dev, s.at + off}})
		}
		return ways, int64(c.length) - off
	}
	number, within, n := off/stripeLength, off%stripeLength, int64(len(c.stripes))
	on := func(i, row int64) stripe {
		return stripe{c.stripes[i].dev, c.stripes[i].at + row*stripeLength + within}
	}
	length = stripeLength - within
	switch c.profile {
	case profileRAID0, profileRAID10:
		copies := int64(c.copies)
		groups := n / copies
		for i := range copies {
			ways = append(ways, way{on(number%groups*copies+i, number/groups)})
		}
		return ways, length
	}
	// In each row the data begins at the next stripe, and parity is behind it: of all, and in RAID 6
	// a second one, which cannot make up for anything alone.
	data := n - 1
	if c.profile == profileRAID6 {
		data = n - 2
	}
	row := number / data
	own, second := (row+number%data)%n, (row+data+1)%n
	others := way{}
	for i := range n {
		if i != own && (c.profile == profileRAID5 || i != second) {
			others = append(others, on(i, row))
		}
	}
	return append(ways, way{on(own, row)}, others), length
}
