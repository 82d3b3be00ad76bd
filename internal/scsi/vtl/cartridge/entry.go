package cartridge

import (
	"encoding/binary"
	"hash/crc32"
)

const (
	entrySize   = 32
	pageEntries = pageSize / entrySize
	// pageSize is what a disk writes at a time, and what a power cut may spoil.
	pageSize  = 4096
	maxOffset = 1 << 56 // of stored bytes; no disk has as many
)

var be = binary.BigEndian

// aligned is the next offset that shares its page with nothing before.
func aligned(off int64) int64 { return (off + pageSize - 1) &^ (pageSize - 1) }

// Overhead is what an object takes of the capacity besides its bytes; an
// encrypted one takes some more.
const Overhead = entrySize + sealOverhead

// Kinds of objects.
const (
	kindBlock     = 1
	kindMark      = 2
	kindEncrypted = 3
)

// Object describes a block or a filemark.
type Object struct {
	Mark      bool
	Encrypted bool
	Length    int    // of the block, as the host wrote it
	Files     uint64 // filemarks before it

	off   int64
	sum   uint32
	check [3]byte
}

// stored is the number of bytes in data.
func (o Object) stored() int {
	if o.Encrypted {
		return o.Length + sealOverhead
	}
	return o.Length
}

// end is where the next object's bytes begin.
func (o Object) end() int64 { return o.off + int64(o.stored()) }

// filesAfter is the number of filemarks up to and with it.
func (o Object) filesAfter() uint64 {
	if o.Mark {
		return o.Files + 1
	}
	return o.Files
}

func castagnoli(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// entrySum covers the number too: an entry at a wrong place is no entry.
func entrySum(number uint64, b []byte) uint32 {
	var n [8 + entrySize]byte
	binary.BigEndian.PutUint64(n[:], number)
	return castagnoli(n[:8+copy(n[8:], b[:28])])
}

func (o Object) append(b []byte, number uint64) []byte {
	var e [entrySize]byte

	be.PutUint64(e[0:], uint64(o.off))
	be.PutUint64(e[8:], o.Files)
	be.PutUint32(e[16:], uint32(o.Length))
	be.PutUint32(e[20:], o.sum)
	copy(e[24:], o.check[:])
	switch {
	case o.Mark:
		e[27] = kindMark
	case o.Encrypted:
		e[27] = kindEncrypted
	default:
		e[27] = kindBlock
	}
	be.PutUint32(e[28:], entrySum(number, e[:]))
	return append(b, e[:]...)
}

// parseEntry decodes the entry of an object.
func parseEntry(number uint64, e []byte) (Object, error) {
	if be.Uint32(e[28:]) != entrySum(number, e) {
		return Object{}, &CorruptError{number, "its entry in the index is damaged"}
	}
	o := Object{
		Mark:      e[27] == kindMark,
		Encrypted: e[27] == kindEncrypted,
		Length:    int(be.Uint32(e[16:])),
		Files:     be.Uint64(e[8:]),
		off:       int64(be.Uint64(e[0:])),
		sum:       be.Uint32(e[20:]),
		check:     [3]byte(e[24:]),
	}
	if e[27] < kindBlock || e[27] > kindEncrypted || o.Length > MaxBlock || o.off < 0 || o.off > maxOffset || o.Mark && o.Length != 0 {
		return Object{}, &CorruptError{number, "its entry in the index makes no sense"}
	}
	return o, nil
}
