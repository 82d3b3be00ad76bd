package h2

import (
	"encoding/binary"
	"fmt"
)

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// header is that of a frame: length of 3 bytes, type, flags, stream of 4 bytes.
type header struct {
	length      int
	kind, flags byte
	stream      uint32
}

const (
	headerSize = 9
	pingSize   = 8
)

// Types of frames.
const (
	frameData         = 0
	frameHeaders      = 1
	framePriority     = 2
	frameReset        = 3
	frameSettings     = 4
	framePush         = 5
	framePing         = 6
	frameGoAway       = 7
	frameWindowUpdate = 8
	frameContinuation = 9
)

// Flags.
const (
	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

// Settings.
const (
	settingTable   = 1
	settingPush    = 2
	settingStreams = 3
	settingWindow  = 4
	settingFrame   = 5
)

const settingSize = 6

type setting struct {
	id    uint16
	value uint32
}

func parseHeader(b []byte) header {
	return header{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		kind:   b[3], flags: b[4],
		stream: binary.BigEndian.Uint32(b[5:]) & streamMax,
	}
}

// put writes the header to the first headerSize bytes of b.
func (h header) put(b []byte) {
	binary.BigEndian.PutUint32(b, uint32(h.length)<<8|uint32(h.kind))
	b[4] = h.flags
	binary.BigEndian.PutUint32(b[5:], h.stream)
}

func appendFrame(b []byte, kind, flags byte, stream uint32, payload []byte) []byte {
	var h [headerSize]byte
	header{len(payload), kind, flags, stream}.put(h[:])
	return append(append(b, h[:]...), payload...)
}

// appendNumber appends a frame that holds one number.
func appendNumber(b []byte, kind byte, stream, n uint32) []byte {
	return appendFrame(b, kind, 0, stream, binary.BigEndian.AppendUint32(nil, n))
}

func appendSettings(b []byte, ss ...setting) []byte {
	var p []byte
	for _, s := range ss {
		p = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(p, s.id), s.value)
	}
	return appendFrame(b, frameSettings, 0, 0, p)
}

// code says why a stream or connection ends.
type code uint32

const (
	codeNone    code = 0
	codeRefused code = 7
	codeCancel  code = 8
)

func (e code) String() string {
	words := []string{
		"no error", "protocol error", "internal error", "flow control error", "settings timeout", "stream closed", "frame size error",
		"refused stream", "cancelled", "compression error", "connect error", "enhance your calm", "inadequate security", "HTTP/1.1 required",
	}
	if int(e) < len(words) {
		return words[e]
	}
	return fmt.Sprintf("code %d", uint32(e))
}
