// Package image is a disk image that can be read at any offset: a raw file, a
// block device, a qcow2 chain, a snapshot's archive. Backup consumes one;
// restore, map, the NBD server and file restore produce or consume one.
//
// Features are filters over images: a decorator does one thing and passes the
// rest on. An ability that only some images have is a small interface of its
// own, found by type assertion ([Extenter], [Adviser], [Consumer],
// [Ordered]).
//
// # Sources
//
// [OpenFile] is a raw file or block device. Package qcow2 reads qcow2 chains,
// package source decides which of the two a path is. [Stream] is what comes
// through a pipe: in order, once, perhaps of unknown length ([Sequential]).
//
// # Failures of a source
//
// An image never returns made-up bytes. A file that lost bytes since it was
// opened is a [*ShrunkError]; an unreadable sector is the system's error with
// path and offset. [BadSectors] is the one filter that turns the latter into
// zeros, on the user's word, and it keeps the list of what it made up.
package image

import (
	"fmt"
	"io"
)

// Image is a random-access disk image of a fixed size. ReadAt is safe for
// concurrent use, short only at the end, and then returns io.EOF.
type Image interface {
	io.ReaderAt
	Size() int64 // bytes
}

// Kind says what is known about a range without reading it.
type Kind int

// The kinds of extents. Data promises nothing; Zero promises that every byte
// reads as zero; Unchanged promises that every byte equals the base that the
// image was opened against (the previous snapshot), so that it need not be
// read.
const (
	Data Kind = iota
	Zero
	Unchanged
)

func (k Kind) String() string {
	switch k {
	case Data:
		return "data"
	case Zero:
		return "zero"
	case Unchanged:
		return "unchanged"
	}
	return fmt.Sprintf("image.Kind(%d)", int(k))
}

// Extent is a range [Offset, Offset+Length) of one kind.
type Extent struct {
	Offset, Length int64 // bytes
	Kind           Kind
}

// End is the first byte behind the extent.
func (e Extent) End() int64 { return e.Offset + e.Length }

// Extenter is an image that knows its extents. ExtentAt returns the extent
// that begins exactly at off (0 <= off < Size) and is at least one byte long;
// it may be shorter than the whole run. It is safe for concurrent use.
type Extenter interface {
	ExtentAt(off int64) (Extent, error)
}

// ExtentAt asks img for the extent at off; an image that does not know is all
// data.
func ExtentAt(img Image, off int64) (Extent, error) {
	if off < 0 || off >= img.Size() {
		return Extent{}, fmt.Errorf("image: extent at %d of an image of %d bytes", off, img.Size())
	}
	if x, ok := img.(Extenter); ok {
		return x.ExtentAt(off)
	}
	return Extent{Offset: off, Length: img.Size() - off, Kind: Data}, nil
}

// Adviser is an image that can begin to fetch what is read next. It is a
// hint: it promises nothing, does not wait and cannot fail.
type Adviser interface {
	WillNeed(off, n int64)
}

// WillNeed passes the hint to an image that takes it.
func WillNeed(img Image, off, n int64) {
	if a, ok := img.(Adviser); ok {
		a.WillNeed(off, n)
	}
}

// Consumer is an image whose bytes take space only until they are stored, such
// as the scratch disk behind a running guest. Consumed says that nobody asks
// for [off, off+n) again. It is a hint as well.
type Consumer interface {
	Consumed(off, n int64)
}

// Consumed passes the hint to an image that takes it.
func Consumed(img Image, off, n int64) {
	if c, ok := img.(Consumer); ok {
		c.Consumed(off, n)
	}
}

// Target is where a disk image is written to. Offsets may come in any order
// and concurrently, but no two calls overlap. What is neither written nor
// zeroed before Finish reads as zero on a fresh target and keeps its old
// content on an existing one (see Fresh).
type Target interface {
	io.WriterAt
	// Zero makes [off, off+n) read as zeros, without taking space where the
	// target can.
	Zero(off, n int64) error
	// Fresh reports that the target reads as zeros everywhere at the start, so
	// that zero ranges need no call.
	Fresh() bool
	// Finish makes everything durable. Close without Finish leaves a target
	// that is marked as unfinished or removed where the target can do so.
	Finish() error
	Close() error
}

// Ordered is a target that may demand its bytes in order (a pipe): while
// Sequential is true, each WriteAt and Zero begins at or behind the end of the
// one before and only one runs at a time. What is left out reads as zero.
type Ordered interface {
	Sequential() bool
}

// Shifted is a target that lies within something larger, whose pages of 4096 bytes
// begin at the offset Shift of the target and every 4096 bytes from there. What is written
// in whole pages need not be read first.
type Shifted interface {
	Shift() int64 // from 0 to 4095
}

// NeedsOrder reports whether t must be written in order.
func NeedsOrder(t Target) bool {
	o, ok := t.(Ordered)
	return ok && o.Sequential()
}
