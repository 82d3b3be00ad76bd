package provider

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// The two halves that back up a container speak in frames over a socket: one byte
// for the kind, four for the length, little-endian, and that many bytes.
//
//	walker → service                        service → walker
//	A  the call, JSON                       G  go: {"split":…,"base":…}, with two
//	M  bytes of metadata, or of version 1      descriptors if there is a base
//	P  bytes of the payload                 L  a line of the log, JSON
//	H  hint: 8 bytes, an offset             D  done: {"error":…}
//	R  reuse: 8 bytes, the offset; then 4
//	   for each chunk, its number in the
//	   base
//	E  the end: the report, JSON
//	F  failed, text
//
// The base's index that the walker gets names chunks by their numbers: digests
// stay with the service, which also need not believe what comes back.
const (
	frameCall    = 'A'
	frameMeta    = 'M'
	framePayload = 'P'
	frameHint    = 'H'
	frameReuse   = 'R'
	frameEnd     = 'E'
	frameFailed  = 'F'
	frameGo      = 'G'
	frameLog     = 'L'
	frameDone    = 'D'
)

const (
	frameHead = 5
	maxFrame  = 8 << 20 // bytes: a call holds the guest's configuration
)

// errFrame is wrapped when the other half does not speak as it should.
var errFrame = errors.New("the two halves of a container's backup do not understand each other")

func appendFrame(dst []byte, kind byte, payload ...[]byte) ([]byte, error) {
	n := 0
	for _, p := range payload {
		n += len(p)
	}
	if n > maxFrame {
		return nil, fmt.Errorf("%w: a frame of %d bytes", errFrame, n)
	}
	dst = binary.LittleEndian.AppendUint32(append(dst, kind), uint32(n))
	for _, p := range payload {
		dst = append(dst, p...)
	}
	return dst, nil
}

func writeJSON(w io.Writer, kind byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if b, err = appendFrame(nil, kind, b); err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// readFrame reads a frame into buf, which grows as needed. A connection that
// ends between frames is io.EOF.
func readFrame(r *bufio.Reader, buf []byte) (kind byte, payload []byte, err error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := int(binary.LittleEndian.Uint32(head[1:]))
	if n > maxFrame {
		return 0, nil, fmt.Errorf("%w: a frame of %d bytes", errFrame, n)
	}
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if _, err := io.ReadFull(r, buf); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return head[0], buf, nil
}

// goFrame tells the walker what to make.
type goFrame struct {
	Split bool `json:"split"`
	Base  bool `json:"base"`
}

type logFrame struct {
	Level   Level  `json:"level"`
	Message string `json:"message"`
}

type doneFrame struct {
	Kind  string `json:"kind,omitempty"`
	Error string `json:"error,omitempty"`
}
