package verify

import (
	"encoding/binary"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
)

// chunkList is an index in the eyes of a verification.
type chunkList interface {
	Count() int
	Chunk(i int) (c chunkRef, err error)
}

// chunkRef is one chunk that an index names.
type chunkRef struct {
	slot   int // its number in the index
	digest digest.Digest
	size   int64 // plain bytes
	place  Place // zero: what the digest says
}

// claim names what is said of a chunk. Another index may say something else of
// the same chunk, and be right.
func (r chunkRef) claim(encrypted bool) digest.Digest {
	var b [digest.Size + 8 + len(r.place) + 1]byte
	n := copy(b[:], r.digest[:])
	binary.LittleEndian.PutUint64(b[n:], uint64(r.size))
	n += 8
	n += copy(b[n:], r.place[:])
	if encrypted {
		b[n] = 1
	}
	return digest.Of(b[:])
}

type fixedChunks struct{ *fidx.Index }

func (x fixedChunks) Chunk(i int) (chunkRef, error) {
	d, err := x.Digest(i)
	start, end := x.Bounds(i)
	return chunkRef{slot: i, digest: d, size: end - start}, err
}

type dynamicChunks struct{ *didx.Index }

func (x dynamicChunks) Chunk(i int) (chunkRef, error) {
	e, err := x.Entry(i)
	if err != nil {
		return chunkRef{}, err
	}
	start, end, err := x.Bounds(i)
	return chunkRef{slot: i, digest: e.Digest, size: end - start}, err
}
