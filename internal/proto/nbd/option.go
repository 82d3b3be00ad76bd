package nbd

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// Option is what a client asks for during the handshake.
type Option uint32

// The options.
const (
	OptExportName      Option = 1
	OptAbort           Option = 2
	OptList            Option = 3
	OptPeekExport      Option = 4 // withdrawn
	OptStartTLS        Option = 5
	OptInfo            Option = 6
	OptGo              Option = 7
	OptStructuredReply Option = 8
	OptListMetaContext Option = 9
	OptSetMetaContext  Option = 10
	OptExtendedHeaders Option = 11
)

func (o Option) String() string {
	return name(int(o), "", "EXPORT_NAME", "ABORT", "LIST", "PEEK_EXPORT", "STARTTLS", "INFO", "GO",
		"STRUCTURED_REPLY", "LIST_META_CONTEXT", "SET_META_CONTEXT", "EXTENDED_HEADERS")
}

// ReplyType is the kind of a reply to an option.
type ReplyType uint32

// The reply types. Errors have the topmost bit.
const (
	RepAck         ReplyType = 1
	RepServer      ReplyType = 2
	RepInfo        ReplyType = 3
	RepMetaContext ReplyType = 4

	repError            ReplyType = 1 << 31
	RepErrUnsup                   = repError + 1
	RepErrPolicy                  = repError + 2
	RepErrInvalid                 = repError + 3
	RepErrPlatform                = repError + 4
	RepErrTLSReqd                 = repError + 5
	RepErrUnknown                 = repError + 6 // no such export
	RepErrShutdown                = repError + 7
	RepErrBlockSizeReqd           = repError + 8
	RepErrTooBig                  = repError + 9
	RepErrExtHeaderReqd           = repError + 10
)

// IsError reports whether the type is an error.
func (t ReplyType) IsError() bool { return t&repError != 0 }

func (t ReplyType) String() string {
	if t.IsError() {
		return "ERR_" + name(int(t&^repError), "", "UNSUP", "POLICY", "INVALID", "PLATFORM", "TLS_REQD", "UNKNOWN",
			"SHUTDOWN", "BLOCK_SIZE_REQD", "TOO_BIG", "EXT_HEADER_REQD")
	}
	return name(int(t), "", "ACK", "SERVER", "INFO", "META_CONTEXT")
}

// OptionError is a refused option.
type OptionError struct {
	Option Option
	Type   ReplyType
	Text   string // the peer's words, may be empty
}

func (e *OptionError) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("nbd: option %s: %s", e.Option, e.Type)
	}
	return fmt.Sprintf("nbd: option %s: %s: %s", e.Option, e.Type, e.Text)
}

// OptionHeader comes before an option's data.
type OptionHeader struct {
	Option Option
	Length uint32 // of the data
}

// Append appends the 16 bytes.
func (h OptionHeader) Append(b []byte) []byte {
	b = be.AppendUint64(b, OptionMagic)
	b = be.AppendUint32(b, uint32(h.Option))
	return be.AppendUint32(b, h.Length)
}

// ParseOptionHeader reads [OptionHeaderSize] bytes.
func ParseOptionHeader(b []byte) (OptionHeader, error) {
	if len(b) < OptionHeaderSize {
		return OptionHeader{}, short("option", len(b), OptionHeaderSize)
	}
	if be.Uint64(b) != OptionMagic {
		return OptionHeader{}, fmt.Errorf("%w: option magic %x", ErrFormat, b[:8])
	}
	return OptionHeader{Option(be.Uint32(b[8:])), be.Uint32(b[12:])}, nil
}

// OptionReply comes before the data of a reply to an option.
type OptionReply struct {
	Option Option
	Type   ReplyType
	Length uint32 // of the data
}

// Append appends the 20 bytes.
func (r OptionReply) Append(b []byte) []byte {
	b = be.AppendUint64(b, OptionReplyMagic)
	b = be.AppendUint32(b, uint32(r.Option))
	b = be.AppendUint32(b, uint32(r.Type))
	return be.AppendUint32(b, r.Length)
}

// ParseOptionReply reads [OptionReplySize] bytes.
func ParseOptionReply(b []byte) (OptionReply, error) {
	if len(b) < OptionReplySize {
		return OptionReply{}, short("option reply", len(b), OptionReplySize)
	}
	if be.Uint64(b) != OptionReplyMagic {
		return OptionReply{}, fmt.Errorf("%w: option reply magic %x", ErrFormat, b[:8])
	}
	return OptionReply{Option(be.Uint32(b[8:])), ReplyType(be.Uint32(b[12:])), be.Uint32(b[16:])}, nil
}

// AppendOption appends an option with its data.
func AppendOption(b []byte, o Option, data []byte) []byte {
	return append(OptionHeader{o, uint32(len(data))}.Append(b), data...)
}

// AppendOptionReply appends a reply with its data.
func AppendOptionReply(b []byte, o Option, t ReplyType, data []byte) []byte {
	return append(OptionReply{o, t, uint32(len(data))}.Append(b), data...)
}

// ParseString checks the bytes of a name, description or text.
func ParseString(b []byte) (string, error) {
	switch {
	case len(b) > MaxString:
		return "", fmt.Errorf("%w: string of %d bytes, at most %d", ErrFormat, len(b), MaxString)
	case bytes.IndexByte(b, 0) >= 0:
		return "", fmt.Errorf("%w: string %q has a NUL", ErrFormat, b)
	case !utf8.Valid(b):
		return "", fmt.Errorf("%w: string %q is not UTF-8", ErrFormat, b)
	}
	return string(b), nil
}

// cutString takes a string with its u32 length off the front.
func cutString(b []byte) (s string, rest []byte, err error) {
	if len(b) < 4 {
		return "", nil, short("string length", len(b), 4)
	}
	n := be.Uint32(b)
	if uint64(n) > uint64(len(b)-4) {
		return "", nil, fmt.Errorf("%w: string of %d bytes in %d", ErrFormat, n, len(b)-4)
	}
	s, err = ParseString(b[4 : 4+n])
	return s, b[4+n:], err
}

func appendString(b []byte, s string) []byte {
	return append(be.AppendUint32(b, uint32(len(s))), s...)
}
