// Package nbd is the wire format of the Network Block Device protocol: the
// bytes of the fixed newstyle handshake and of the transmission phase, and the
// addresses (URIs) of exports. It does no I/O: packages nbdserver and nbdclient
// do.
//
// All integers are big-endian. Strings are UTF-8 without a terminator, at most
// [MaxString] bytes, and hold no NUL.
//
// # Handshake
//
//	S  "NBDMAGIC" "IHAVEOPT" u16 flags              [HandshakeFlags], 18 bytes
//	C  u32 flags                                    those of the server that the client wants
//	C  "IHAVEOPT" u32 option u32 length data        [OptionHeader], 16 bytes, any number of times
//	S  u64 0x3e889045565a9 u32 option u32 type u32 length data   [OptionReply], 20 bytes
//
// Options are answered one at a time by any number of informative replies and
// one final reply (ACK or an error). Transmission begins behind the ACK of GO,
// or behind the answer to EXPORT_NAME, which has no header: u64 size, u16
// [ExportFlags], and 124 zero bytes unless the client set [NoZeroes].
//
// # Transmission
//
//	request            25609513 u16 flags u16 type u64 cookie u64 offset u32 length      28 bytes
//	extended request   21e41c71 u16 flags u16 type u64 cookie u64 offset u64 length      32 bytes
//	simple reply       67446698 u32 errno u64 cookie                                     16 bytes
//	structured chunk   668e33ef u16 flags u16 type u64 cookie u32 length                 20 bytes
//	extended chunk     6e8a278c u16 flags u16 type u64 cookie u64 offset u64 length      32 bytes
//
// A connection speaks one of three dialects ([Mode]): simple requests with
// simple replies; simple requests with simple replies or structured chunks,
// where a READ is only answered by chunks; extended requests with extended
// chunks only. Payloads of chunks:
//
//	NONE              nothing
//	OFFSET_DATA       u64 offset, data
//	OFFSET_HOLE       u64 offset u32 length
//	BLOCK_STATUS      u32 context, n × { u32 length u32 flags }
//	BLOCK_STATUS_EXT  u32 context u32 n, n × { u64 length u64 flags }
//	ERROR             u32 errno u16 length text
//	ERROR_OFFSET      u32 errno u16 length text u64 offset
//
// # Errors
//
// Parsers return errors that wrap [ErrFormat] and take no more memory than the
// input has. A failure that travels on the wire is a [*Error].
//
// # Source
//
// The protocol's published description (doc/proto.md and doc/uri.md of
// NetworkBlockDevice/nbd, with the extension-ext-header branch), checked
// against qemu-nbd, nbdkit and libnbd.
package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrFormat is wrapped by the errors of all parsers.
var ErrFormat = errors.New("nbd: malformed")

var be = binary.BigEndian

// The magics.
const (
	InitMagic            = 0x4e42444d41474943 // "NBDMAGIC"
	OptionMagic          = 0x49484156454f5054 // "IHAVEOPT"
	OldstyleMagic        = 0x0000420281861253
	OptionReplyMagic     = 0x0003e889045565a9
	RequestMagic         = 0x25609513
	SimpleReplyMagic     = 0x67446698
	StructuredReplyMagic = 0x668e33ef
	ExtendedRequestMagic = 0x21e41c71
	ExtendedReplyMagic   = 0x6e8a278c
)

// Sizes of what has a fixed size, and limits.
const (
	GreetingSize        = 18
	ClientFlagsSize     = 4
	OptionHeaderSize    = 16
	OptionReplySize     = 20
	ExportNameReplySize = 10 // without the zeros
	ExportNamePadding   = 124
	RequestSize         = 28
	ExtendedRequestSize = 32
	SimpleReplySize     = 16
	ChunkSize           = 20 // of a structured reply
	ExtendedChunkSize   = 32

	MaxString     = 4096
	MaxPayload    = 32 << 20 // of READ and WRITE where nothing else was agreed
	MaxExtents    = 1 << 20  // in one BLOCK_STATUS chunk
	MinDF         = 65536    // a READ with DF up to this length must work
	DefaultPort   = 10809
	PreferredSize = 4096 // block size where nothing was agreed
)

// Mode is the dialect of a connection's transmission phase.
type Mode int

// The dialects.
const (
	Simple Mode = iota
	Structured
	Extended
)

func (m Mode) String() string { return name(int(m), "simple", "structured", "extended") }

// name returns the i-th of names.
func name(i int, names ...string) string {
	if i >= 0 && i < len(names) && names[i] != "" {
		return names[i]
	}
	return fmt.Sprintf("%#x", i)
}

// HandshakeFlags are those of the greeting and of the client's answer.
type HandshakeFlags uint32

// The handshake flags.
const (
	FixedNewstyle HandshakeFlags = 1 << 0
	NoZeroes      HandshakeFlags = 1 << 1
)

// AppendGreeting appends the first bytes of a server.
func AppendGreeting(b []byte, f HandshakeFlags) []byte {
	b = be.AppendUint64(b, InitMagic)
	b = be.AppendUint64(b, OptionMagic)
	return be.AppendUint16(b, uint16(f))
}

// ParseGreeting reads the first [GreetingSize] bytes of a server.
func ParseGreeting(b []byte) (HandshakeFlags, error) {
	if len(b) < GreetingSize {
		return 0, short("greeting", len(b), GreetingSize)
	}
	if m := be.Uint64(b); m != InitMagic {
		return 0, fmt.Errorf("%w: greeting %x: not an NBD server", ErrFormat, b[:8])
	}
	switch m := be.Uint64(b[8:]); m {
	case OptionMagic:
		return HandshakeFlags(be.Uint16(b[16:])), nil
	case OldstyleMagic:
		return 0, fmt.Errorf("%w: the server speaks the oldstyle handshake, which has no export names and no options", ErrFormat)
	}
	return 0, fmt.Errorf("%w: greeting %x", ErrFormat, b[8:16])
}

// AppendClientFlags appends the client's answer to the greeting.
func AppendClientFlags(b []byte, f HandshakeFlags) []byte { return be.AppendUint32(b, uint32(f)) }

// ParseClientFlags reads the client's answer to the greeting.
func ParseClientFlags(b []byte) (HandshakeFlags, error) {
	if len(b) < ClientFlagsSize {
		return 0, short("client flags", len(b), ClientFlagsSize)
	}
	return HandshakeFlags(be.Uint32(b)), nil
}

func short(what string, have, want int) error {
	return fmt.Errorf("%w: %s of %d bytes, want %d", ErrFormat, what, have, want)
}
