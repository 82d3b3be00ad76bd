// Package packrefs reads and writes what a garbage collection of a bucket knows of
// references: how many snapshots need each chunk of each pack. They are the "r"
// objects: shards, each with the packs of a range of names, and one root that
// says which shards there are and which snapshots they count.
//
// # Layout of a shard
//
// Blocks, and an end. Integers of fixed size are little-endian; v is an unsigned
// LEB128 of at most 64 bits in as few bytes as it takes.
//
//	size  of a block
//	4     length z of its compressed form, at least 1
//	4     length of its plain form, at most 16 MiB
//	4     CRC-32C of the plain form
//	z     zstd frame of its plain form
//
// The plain form is packs, in ascending order of their names:
//
//	v  session, as difference from that of the pack before; 0 before the first of a block
//	v  number; if the session is that of the pack before: difference less 1
//	v  length of the pack in bytes
//	v  day until which it is locked, from 1970-01-01; 0: not
//	v  twice the number of chunk maps and moved packs that name it; plus 1 if it is removed
//	v  number of chunks, then for each, in the order in which they lie:
//	     v  bytes between the end of the one before and its beginning
//	     v  length of the encoded chunk, at least 1
//	     v  how many snapshots need it
//
// The end is 12 zero bytes, the number of packs (8), the number of chunks (8),
// the CRC-32C of these 16 bytes (4), and "HFREFS01".
//
// # Layout of a root
//
// Length of the plain form (4, at most 256 MiB), its CRC-32C (4), its zstd frame, and
// "HFROOT01". See [Root] for the content of the plain form.
//
// # Errors
//
// Bytes that are neither give an error wrapping [ErrFormat]. A shard that ends too early
// gives io.ErrUnexpectedEOF; errors of its reader come back wrapped.
package packrefs

import (
	"errors"
	"hash/crc32"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/pack"
)

// ErrFormat is wrapped when bytes are not what this package writes.
var ErrFormat = errors.New("not valid counts of references")

// Day is a day by UTC, counted from 1970-01-01. 0 stands for none.
type Day uint32

// DayOf returns the day of a moment.
func DayOf(t time.Time) Day { return Day(max(t.Unix(), 0) / 86400) }

// Time is when the day begins.
func (d Day) Time() time.Time { return time.Unix(int64(d)*86400, 0).UTC() }

// Chunk is what is known of one chunk of a pack.
type Chunk struct {
	Off, Len uint32
	Count    uint32 // snapshots that need it here
}

// Pack is what is known of a pack: the chunks that somebody needs or needed.
type Pack struct {
	ID      pack.ID
	Size    uint32 // of the object, bytes
	Until   Day    // it is locked until this day begins
	Named   uint32 // chunk maps and moved packs that name it
	Removed bool   // the object is not there any more, but somebody names it
	Chunks  []Chunk
}

// Needed returns how many chunks somebody needs, and their bytes.
func (p *Pack) Needed() (chunks, bytes int64) {
	for _, c := range p.Chunks {
		if c.Count > 0 {
			chunks++
			bytes += int64(c.Len)
		}
	}
	return chunks, bytes
}

const (
	shardMagic = "HFREFS01"
	rootMagic  = "HFROOT01"

	blockHead = 12
	blockSize = 256 << 10 // from which on a block is written
	maxBlock  = 16 << 20
	maxRoot   = 256 << 20
)

func table() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }
