// Package treewire is the form in which the restore machine sends a file or a
// directory with all below it: entries with their metadata and contents, in the
// order of an archive, over one byte stream that nobody can seek in.
//
// It is no archive: what only a kernel in the machine knows, such as an error in
// the middle of a file, or a hard link's metadata, has a place in it, and the end
// says whether it is all.
//
// # Frames
//
// A frame is its kind, 1 byte, the length of what follows, 4 bytes, big-endian, at
// most 1 MiB, and that.
//
//	kind  payload
//	E     an entry: JSON, see [Entry]. The root is the first, End closes a directory
//	D     bytes of the current file
//	Z     8 bytes, big-endian: so many zeros of the current file
//	F     the current file ends; a text: it could not be read to its end
//	P     JSON, see [Problem]: what is left out, and why
//	N     a text that people want to know
//	X     the stream ends; a text: because of this error
//
// A file's D and Z frames give its size, unless its F frame has a text. Files follow
// the entry of a file at once; nothing else has content.
//
// # What is believed
//
// The machine has mounted what a stranger made, so its word is a stranger's.
// Names, kinds, depths and sizes are checked as those of an archive; a stream that
// ends without X, or breaks the form, is [ErrFormat]. Memory is one frame, the
// names of the directories on the path, and the first 100 notices.
package treewire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// ErrFormat is wrapped by errors about bytes that are no such stream.
var ErrFormat = errors.New("the restore machine's answer is damaged")

const (
	frameHead  = 5
	maxPayload = 1 << 20
	maxData    = 128 << 10 // of a D frame that a Writer makes
)

// The kinds of frames.
const (
	frameEntry   = 'E'
	frameData    = 'D'
	frameZeros   = 'Z'
	frameEndFile = 'F'
	frameProblem = 'P'
	frameNotice  = 'N'
	frameEnd     = 'X'
)

// Entry is the JSON form of a pxar.Entry: its strings are any bytes.
type Entry struct {
	Name     []byte        `json:"n,omitempty"`
	Kind     pxar.Kind     `json:"k"`
	Metadata pxar.Metadata `json:"m"`
	Attrs    []Attr        `json:"x,omitempty"` // Metadata's own are left out
	Size     int64         `json:"s,omitempty"`
	Target   []byte        `json:"t,omitempty"` // of a hard link: the path from the root of the stream
	Device   pxar.Device   `json:"d"`
	Number   int64         `json:"i"`           // counts entries from 1
	Link     int64         `json:"l,omitempty"` // of a hard link: the Number of its file
}

// Attr is an extended attribute.
type Attr struct {
	Name  []byte `json:"n"`
	Value []byte `json:"v"`
}

// Problem is something that is left out.
type Problem struct {
	Path  []byte `json:"path"` // from the root of the stream
	Error string `json:"error"`
}

func readFrame(r io.Reader, buf []byte) (kind byte, payload []byte, err error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("%w: it ends early", ErrFormat)
		}
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxPayload {
		return 0, nil, fmt.Errorf("%w: a frame of %d bytes", ErrFormat, n)
	}
	if int(n) > cap(buf) {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if _, err := io.ReadFull(r, buf); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("%w: it ends within a frame", ErrFormat)
		}
		return 0, nil, err
	}
	return head[0], buf, nil
}
