package nbd

import "fmt"

// Command is what a request asks for.
type Command uint16

// The commands.
const (
	CmdRead        Command = 0
	CmdWrite       Command = 1
	CmdDisc        Command = 2
	CmdFlush       Command = 3
	CmdTrim        Command = 4
	CmdCache       Command = 5
	CmdWriteZeroes Command = 6
	CmdBlockStatus Command = 7
	CmdResize      Command = 8
)

func (c Command) String() string {
	return name(int(c), "READ", "WRITE", "DISC", "FLUSH", "TRIM", "CACHE", "WRITE_ZEROES", "BLOCK_STATUS", "RESIZE")
}

// CommandFlags change what a command does.
type CommandFlags uint16

// The command flags.
const (
	FlagFUA        CommandFlags = 1 << 0 // durable before the reply
	FlagNoHole     CommandFlags = 1 << 1 // WRITE_ZEROES: allocate
	FlagDF         CommandFlags = 1 << 2 // READ: one chunk
	FlagReqOne     CommandFlags = 1 << 3 // BLOCK_STATUS: one extent, inside the range
	FlagFastZero   CommandFlags = 1 << 4 // WRITE_ZEROES: ENOTSUP rather than slow
	FlagPayloadLen CommandFlags = 1 << 5 // extended: length is that of the payload
)

// Request is the header of a request.
type Request struct {
	Flags  CommandFlags
	Type   Command
	Cookie uint64
	Offset uint64
	Length uint64 // of the range or, with PayloadLen, of the payload
}

// Payload is the number of bytes that follow the header.
func (r Request) Payload(m Mode) uint64 {
	if m != Extended && r.Type == CmdWrite || m == Extended && r.Flags&FlagPayloadLen != 0 {
		return r.Length
	}
	return 0
}

// Append appends the header as the dialect has it. Except in extended mode,
// Length must fit 32 bits.
func (r Request) Append(b []byte, m Mode) []byte {
	magic := uint32(RequestMagic)
	if m == Extended {
		magic = ExtendedRequestMagic
	}
	b = be.AppendUint32(b, magic)
	b = be.AppendUint16(b, uint16(r.Flags))
	b = be.AppendUint16(b, uint16(r.Type))
	b = be.AppendUint64(b, r.Cookie)
	b = be.AppendUint64(b, r.Offset)
	if m == Extended {
		return be.AppendUint64(b, r.Length)
	}
	return be.AppendUint32(b, uint32(r.Length))
}

// RequestHeaderSize is the size of a request's header in a dialect.
func RequestHeaderSize(m Mode) int {
	if m == Extended {
		return ExtendedRequestSize
	}
	return RequestSize
}

// ParseRequest reads RequestHeaderSize(m) bytes.
func ParseRequest(b []byte, m Mode) (Request, error) {
	magic := uint32(RequestMagic)
	if m == Extended {
		magic = ExtendedRequestMagic
	}
	if want := RequestHeaderSize(m); len(b) < want {
		return Request{}, short("request", len(b), want)
	}
	if be.Uint32(b) != magic {
		return Request{}, fmt.Errorf("%w: request magic %x, want %08x", ErrFormat, b[:4], magic)
	}
	r := Request{
		Flags:  CommandFlags(be.Uint16(b[4:])),
		Type:   Command(be.Uint16(b[6:])),
		Cookie: be.Uint64(b[8:]),
		Offset: be.Uint64(b[16:]),
	}
	if m == Extended {
		r.Length = be.Uint64(b[24:])
	} else {
		r.Length = uint64(be.Uint32(b[24:]))
	}
	return r, nil
}
