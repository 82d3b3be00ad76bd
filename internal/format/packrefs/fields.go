package packrefs

import (
	"encoding/binary"

	"github.com/holdfast-backup/holdfast/internal/format/pack"
)

// fields takes numbers off bytes.
type fields struct {
	b   []byte
	bad bool // one was not there, too large, or written in more bytes than it takes
}

func (f *fields) next(limit uint64) uint64 {
	v, n := binary.Uvarint(f.b)
	if f.bad || n <= 0 || v > limit || n > 1 && f.b[n-1] == 0 {
		f.bad = true
		return 0
	}
	f.b = f.b[n:]
	return v
}

func (f *fields) id() pack.ID {
	return pack.ID{Session: f.next(1<<64 - 1), Number: uint32(f.next(1<<32 - 1))}
}

// list is how many elements follow, each of at least so many bytes.
func (f *fields) list(each int) int { return int(f.next(uint64(len(f.b) / each))) }

// take returns the next n bytes, zeros where they are not there.
func (f *fields) take(n int) []byte {
	if f.bad || len(f.b) < n {
		f.bad = true
		return make([]byte, n)
	}
	b := f.b[:n]
	f.b = f.b[n:]
	return b
}

func (f *fields) text() string {
	n := f.next(uint64(len(f.b)))
	if f.bad {
		return ""
	}
	return string(f.take(int(n)))
}

func appendID(b []byte, id pack.ID) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, id.Session), uint64(id.Number))
}
