package names

import (
	"strconv"

	"github.com/holdfast-backup/holdfast/internal/digest"
)

// ChunkDir is the directory of all chunks, relative to the store.
const ChunkDir = ".chunks"

// MaxBad is the highest number of a corrupt copy of one chunk.
const MaxBad = 9

// ChunkPath returns the path of a chunk relative to the store.
func ChunkPath(d digest.Digest) string {
	b := make([]byte, 0, len(ChunkDir)+2+4+2*digest.Size+len(".0.bad"))
	b = append(b, ChunkDir...)
	b = append(b, '/')
	b = append(b, ChunkSubdir(d)...)
	b = append(b, '/')
	return string(d.AppendHex(b))
}

// ChunkSubdir returns the fan-out directory of a chunk, its first 4 hex digits.
func ChunkSubdir(d digest.Digest) string {
	const hexDigits = "0123456789abcdef"
	return string([]byte{hexDigits[d[0]>>4], hexDigits[d[0]&15], hexDigits[d[1]>>4], hexDigits[d[1]&15]})
}

// BadChunkPath returns the path of the n-th corrupt copy of a chunk, 0 to
// [MaxBad].
func BadChunkPath(d digest.Digest, n int) string {
	return ChunkPath(d) + "." + strconv.Itoa(n) + ".bad"
}

// ChunkFile is what the name of a file in a fan-out directory says.
type ChunkFile struct {
	Digest digest.Digest
	Bad    int // number of a corrupt copy, -1 for a chunk in use
}

// ParseChunkFile reads a file name as garbage collection does: 64 hex digits
// of either case, or the same with ".<digit>.bad". Everything else, temporary
// files included, is no chunk.
func ParseChunkFile(name string) (ChunkFile, bool) {
	const hexLen = 2 * digest.Size
	c := ChunkFile{Bad: -1}
	switch len(name) {
	case hexLen:
	case hexLen + len(".0.bad"):
		n := name[hexLen+1]
		if name[hexLen] != '.' || n < '0' || n > '9' || name[hexLen+2:] != ".bad" {
			return ChunkFile{}, false
		}
		c.Bad = int(n - '0')
	default:
		return ChunkFile{}, false
	}
	d, err := digest.Parse(name[:hexLen])
	if err != nil {
		return ChunkFile{}, false
	}
	c.Digest = d
	return c, true
}
