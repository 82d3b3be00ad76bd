package nbd

import "fmt"

// SimpleReply is the header of a simple reply.
type SimpleReply struct {
	Errno  Errno
	Cookie uint64
}

// Append appends the 16 bytes.
func (r SimpleReply) Append(b []byte) []byte {
	b = be.AppendUint32(b, SimpleReplyMagic)
	b = be.AppendUint32(b, uint32(r.Errno))
	return be.AppendUint64(b, r.Cookie)
}

// ParseSimpleReply reads [SimpleReplySize] bytes.
func ParseSimpleReply(b []byte) (SimpleReply, error) {
	if len(b) < SimpleReplySize {
		return SimpleReply{}, short("simple reply", len(b), SimpleReplySize)
	}
	if be.Uint32(b) != SimpleReplyMagic {
		return SimpleReply{}, fmt.Errorf("%w: simple reply magic %x", ErrFormat, b[:4])
	}
	return SimpleReply{Errno(be.Uint32(b[4:])), be.Uint64(b[8:])}, nil
}

// ChunkType is the kind of a chunk of a structured or extended reply.
type ChunkType uint16

// The chunk types. Errors have the topmost bit.
const (
	ChunkNone           ChunkType = 0
	ChunkOffsetData     ChunkType = 1
	ChunkOffsetHole     ChunkType = 2
	ChunkBlockStatus    ChunkType = 5
	ChunkBlockStatusExt ChunkType = 6

	chunkError       ChunkType = 1 << 15
	ChunkError                 = chunkError + 1
	ChunkErrorOffset           = chunkError + 2
)

// IsError reports whether the type is an error, perhaps an unknown one.
func (t ChunkType) IsError() bool { return t&chunkError != 0 }

func (t ChunkType) String() string {
	switch t {
	case ChunkError:
		return "ERROR"
	case ChunkErrorOffset:
		return "ERROR_OFFSET"
	}
	return name(int(t), "NONE", "OFFSET_DATA", "OFFSET_HOLE", "", "", "BLOCK_STATUS", "BLOCK_STATUS_EXT")
}

// ChunkFlags are those of a chunk.
type ChunkFlags uint16

// FlagDone marks the last chunk of a reply.
const FlagDone ChunkFlags = 1 << 0

// Chunk is the header of a chunk of a structured or extended reply.
type Chunk struct {
	Flags  ChunkFlags
	Type   ChunkType
	Cookie uint64
	Offset uint64 // extended only: that of the request
	Length uint64 // of the payload
}

// ChunkHeaderSize is the size of a chunk's header in a dialect.
func ChunkHeaderSize(m Mode) int {
	if m == Extended {
		return ExtendedChunkSize
	}
	return ChunkSize
}

// Append appends the header as the dialect has it.
func (c Chunk) Append(b []byte, m Mode) []byte {
	magic := uint32(StructuredReplyMagic)
	if m == Extended {
		magic = ExtendedReplyMagic
	}
	b = be.AppendUint32(b, magic)
	b = be.AppendUint16(b, uint16(c.Flags))
	b = be.AppendUint16(b, uint16(c.Type))
	b = be.AppendUint64(b, c.Cookie)
	if m == Extended {
		return be.AppendUint64(be.AppendUint64(b, c.Offset), c.Length)
	}
	return be.AppendUint32(b, uint32(c.Length))
}

// ParseChunk reads ChunkHeaderSize(m) bytes. In structured mode the first four
// bytes say whether a chunk or a simple reply comes: [IsSimpleReply].
func ParseChunk(b []byte, m Mode) (Chunk, error) {
	magic := uint32(StructuredReplyMagic)
	if m == Extended {
		magic = ExtendedReplyMagic
	}
	if want := ChunkHeaderSize(m); len(b) < want {
		return Chunk{}, short("chunk", len(b), want)
	}
	if be.Uint32(b) != magic {
		return Chunk{}, fmt.Errorf("%w: reply magic %x, want %08x", ErrFormat, b[:4], magic)
	}
	c := Chunk{Flags: ChunkFlags(be.Uint16(b[4:])), Type: ChunkType(be.Uint16(b[6:])), Cookie: be.Uint64(b[8:])}
	if m == Extended {
		c.Offset, c.Length = be.Uint64(b[16:]), be.Uint64(b[24:])
	} else {
		c.Length = uint64(be.Uint32(b[16:]))
	}
	return c, nil
}

// IsSimpleReply reports whether b begins a simple reply.
func IsSimpleReply(b []byte) bool { return len(b) >= 4 && be.Uint32(b) == SimpleReplyMagic }

// Hole is the payload of an OFFSET_HOLE chunk.
type Hole struct {
	Offset uint64
	Length uint32
}

// HoleSize is the length of a hole's payload.
const HoleSize = 12

// Append appends the payload.
func (h Hole) Append(b []byte) []byte { return be.AppendUint32(be.AppendUint64(b, h.Offset), h.Length) }

// ParseHole reads the payload of an OFFSET_HOLE chunk.
func ParseHole(b []byte) (Hole, error) {
	if len(b) != HoleSize {
		return Hole{}, short("hole", len(b), HoleSize)
	}
	return Hole{be.Uint64(b), be.Uint32(b[8:])}, nil
}

// ChunkFailure is the payload of an ERROR or ERROR_OFFSET chunk.
type ChunkFailure struct {
	Error
	Offset uint64 // ERROR_OFFSET only
}

// Append appends the payload of a chunk of type t. A text is cut at
// [MaxString].
func (f ChunkFailure) Append(b []byte, t ChunkType) []byte {
	text := f.Text[:min(len(f.Text), MaxString)]
	b = be.AppendUint32(b, uint32(f.Errno))
	b = be.AppendUint16(b, uint16(len(text)))
	b = append(b, text...)
	if t == ChunkErrorOffset {
		b = be.AppendUint64(b, f.Offset)
	}
	return b
}

// ParseChunkFailure reads the payload of an error chunk of type t. Of an
// unknown error type it reads what all have in common. A number of zero, which
// no server may send, becomes EINVAL.
func ParseChunkFailure(b []byte, t ChunkType) (ChunkFailure, error) {
	if len(b) < 6 {
		return ChunkFailure{}, short("error chunk", len(b), 6)
	}
	n := int(be.Uint16(b[4:]))
	rest := len(b) - 6 - n
	if rest < 0 || t == ChunkErrorOffset && rest != 8 || t == ChunkError && rest != 0 {
		return ChunkFailure{}, fmt.Errorf("%w: error chunk with a text of %d bytes in %d", ErrFormat, n, len(b))
	}
	text, err := ParseString(b[6 : 6+n])
	if err != nil {
		return ChunkFailure{}, fmt.Errorf("error chunk: %w", err)
	}
	f := ChunkFailure{Error: Error{Errno: Errno(be.Uint32(b)), Text: text}}
	if f.Errno == OK {
		f.Errno = EINVAL
	}
	if t == ChunkErrorOffset {
		f.Offset = be.Uint64(b[6+n:])
	}
	return f, nil
}

// AppendOffset appends the first field of an OFFSET_DATA chunk's payload.
func AppendOffset(b []byte, off uint64) []byte { return be.AppendUint64(b, off) }

// ParseOffset reads the first 8 bytes of an OFFSET_DATA chunk's payload.
func ParseOffset(b []byte) (uint64, error) {
	if len(b) < 8 {
		return 0, short("data chunk", len(b), 8)
	}
	return be.Uint64(b), nil
}
