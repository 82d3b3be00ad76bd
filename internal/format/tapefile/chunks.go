package tapefile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
)

// ChunkHeaderSize is what stands before the blob of a chunk, in bytes.
const ChunkHeaderSize = 8 + digest.Size + 8

// maxChunkBlob is the longest blob that is read. What PBS takes as a chunk is
// shorter.
const maxChunkBlob = blob.MaxChunk + blob.EncryptedHeaderSize + 4<<10

// chunkMagic is the start of SHA-256("Proxmox Backup Chunk Archive Entry v1.0").
var chunkMagic = [8]byte{0x48, 0x57, 0x6d, 0xf2, 0xde, 0x42, 0x8f, 0xdc}

const (
	offDigest   = 8
	offBlobSize = offDigest + digest.Size
)

// AppendChunkHeader encodes what stands before a blob of size bytes.
func AppendChunkHeader(dst []byte, d digest.Digest, size int) []byte {
	dst = append(append(dst, chunkMagic[:]...), d[:]...)
	return binary.LittleEndian.AppendUint64(dst, uint64(size))
}

// ChunkReader reads the chunks of a chunk archive. Between calls it holds
// nothing but its source.
type ChunkReader struct {
	r   io.Reader
	n   int64
	cut bool
}

// NewChunkReader reads from r, which has the content of the file behind its
// header.
func NewChunkReader(r io.Reader) *ChunkReader { return &ChunkReader{r: r} }

// Next returns the next chunk. Its blob is in buf, if that is large enough, and
// was not looked into. After the last chunk, or when that is cut, the error is
// io.EOF.
func (c *ChunkReader) Next(buf []byte) (d digest.Digest, raw []byte, err error) {
	var head [ChunkHeaderSize]byte
	if err := c.read(head[:]); err != nil {
		return digest.Digest{}, nil, err
	}
	if [8]byte(head[:]) != chunkMagic {
		return digest.Digest{}, nil, fmt.Errorf("%w: chunk %d of the archive begins with %x", ErrFormat, c.n, head[:8])
	}
	size := binary.LittleEndian.Uint64(head[offBlobSize:])
	if size > maxChunkBlob {
		return digest.Digest{}, nil, fmt.Errorf("%w: chunk %d of the archive has %d bytes", ErrFormat, c.n, size)
	}
	raw = slices.Grow(buf[:0], int(size))[:size]
	if err := c.read(raw); err != nil {
		c.cut = c.cut || err == io.EOF // not one byte of the blob is there
		return digest.Digest{}, nil, err
	}
	c.n++
	return digest.Digest(head[offDigest:]), raw, nil
}

// Cut reports, after io.EOF, whether the archive ends within a chunk.
func (c *ChunkReader) Cut() bool { return c.cut }

// read fills b, or returns io.EOF where the archive ends.
func (c *ChunkReader) read(b []byte) error {
	_, err := io.ReadFull(c.r, b)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		c.cut = true
		return io.EOF
	}
	return err
}
