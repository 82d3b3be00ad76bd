// Package moves reads and writes where the chunks of packs have moved that a
// garbage collection wrote anew.
//
// # Layout
//
// An entry of 32 bytes for each chunk that moved, then the footer of 48 bytes.
// Integers are little-endian where nothing else is said.
//
//	offset  size  of an entry, in ascending order of its first 16 bytes
//	0       12    old pack (internal/format/pack)
//	12      4     where in it the chunk began, big-endian
//	16      12    new pack
//	28      4     where in it the chunk begins
//
//	offset  size  footer
//	0       8     number of entries, at least 1
//	8       32    SHA-256 of everything before this field
//	40      8     "HFMOVES1"
//
// A chunk keeps its bytes, and so its length.
//
// # Errors
//
// Bytes that are no such object give an error wrapping [ErrFormat]. [Open] compares
// the checksum and checks all entries, so what it opened can only fail to be read.
package moves

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"

	"github.com/holdfast-backup/holdfast/internal/format/pack"
)

// Sizes in bytes.
const (
	EntrySize  = 2 * keySize
	FooterSize = 48

	keySize = pack.IDSize + 4
)

const (
	offSum   = 8
	offMagic = 40
)

const magic = "HFMOVES1"

var (
	// ErrFormat is wrapped when bytes are no such object.
	ErrFormat = errors.New("not a valid list of moved chunks")
	// ErrOrder is wrapped when a chunk does not follow the one before.
	ErrOrder = errors.New("chunks out of order")
)

// Place is where a chunk begins.
type Place struct {
	Pack pack.ID
	Off  uint32
}

func (p Place) append(dst []byte) []byte {
	return binary.BigEndian.AppendUint32(p.Pack.Append(dst), p.Off)
}

// Writer writes a list in constant memory.
type Writer struct {
	w    io.Writer
	sum  hash.Hash
	last [keySize]byte
	n    int64
	buf  []byte
	err  error
}

// bufferSize is how much is collected for one write.
const bufferSize = 64 << 10

// NewWriter begins a list. It writes in large pieces.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w, sum: sha256.New()} }

// Add says where a chunk has moved. Places from which they moved must ascend.
func (w *Writer) Add(from, to Place) error {
	key := [keySize]byte(from.append(make([]byte, 0, keySize)))
	if w.n > 0 && bytes.Compare(key[:], w.last[:]) <= 0 {
		return fmt.Errorf("moved chunks: %w: the one at %d of pack %s", ErrOrder, from.Off, from.Pack)
	}
	w.last = key
	w.n++
	w.buf = binary.LittleEndian.AppendUint32(to.Pack.Append(append(w.buf, key[:]...)), to.Off)
	if len(w.buf) >= bufferSize {
		w.flush()
	}
	return w.err
}

// Close completes the list and returns its length. It has at least one chunk.
func (w *Writer) Close() (int64, error) {
	if w.n == 0 {
		return 0, fmt.Errorf("%w: no chunks", ErrFormat)
	}
	w.buf = binary.LittleEndian.AppendUint64(w.buf, uint64(w.n))
	w.flush()
	w.buf = append(w.sum.Sum(w.buf), magic...)
	w.flush()
	return w.n*EntrySize + FooterSize, w.err
}

func (w *Writer) flush() {
	if w.err != nil {
		return
	}
	_, w.err = w.w.Write(w.buf)
	w.sum.Write(w.buf)
	w.buf = w.buf[:0]
}

// List reads a list through an [io.ReaderAt], and is safe for concurrent use if
// the reader is.
type List struct {
	r io.ReaderAt
	n int64
}

// Open reads all of a list of size bytes once. It keeps r.
func Open(r io.ReaderAt, size int64) (*List, error) {
	if size < FooterSize+EntrySize || (size-FooterSize)%EntrySize != 0 {
		return nil, fmt.Errorf("%w: it has %d bytes", ErrFormat, size)
	}
	var footer [FooterSize]byte
	if err := readFull(r, footer[:], size-FooterSize); err != nil {
		return nil, err
	}
	if !bytes.Equal(footer[offMagic:], []byte(magic)) {
		return nil, fmt.Errorf("%w: it ends in %x", ErrFormat, footer[offMagic:])
	}
	l := &List{r, (size - FooterSize) / EntrySize}
	if n := binary.LittleEndian.Uint64(footer[:]); n > math.MaxInt64 || int64(n) != l.n {
		return nil, fmt.Errorf("%w: %d chunks in %d bytes", ErrFormat, n, size)
	}
	sum := sha256.New()
	var last []byte
	err := l.entries(func(i int64, b []byte) error {
		sum.Write(b)
		if i > 0 && bytes.Compare(last, b[:keySize]) >= 0 {
			return fmt.Errorf("%w: chunk %d is not behind the one before", ErrFormat, i)
		}
		last = append(last[:0], b[:keySize]...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	sum.Write(footer[:offSum])
	if !bytes.Equal(sum.Sum(nil), footer[offSum:offMagic]) {
		return nil, fmt.Errorf("%w: it has another checksum than it says", ErrFormat)
	}
	return l, nil
}

// Chunks is how many moved.
func (l *List) Chunks() int64 { return l.n }

// Find searches where the chunk that began at a place begins now.
func (l *List) Find(from Place) (to Place, ok bool, err error) {
	var key, b [EntrySize]byte
	from.append(key[:0])
	lo, hi := int64(0), l.n
	for lo < hi {
		mid := lo + (hi-lo)/2
		if err := readFull(l.r, b[:], mid*EntrySize); err != nil {
			return Place{}, false, err
		}
		switch bytes.Compare(b[:keySize], key[:keySize]) {
		case 0:
			_, to := parse(b[:])
			return to, true, nil
		case -1:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return Place{}, false, nil
}

// Each calls f for every chunk that moved, in the order of the old places, and
// stops at its first error, which it returns as it is.
func (l *List) Each(f func(from, to Place) error) error {
	return l.entries(func(_ int64, b []byte) error { return f(parse(b)) })
}

func parse(b []byte) (from, to Place) {
	from = Place{pack.IDFrom(b), binary.BigEndian.Uint32(b[pack.IDSize:])}
	b = b[keySize:]
	return from, Place{pack.IDFrom(b), binary.LittleEndian.Uint32(b[pack.IDSize:])}
}

func (l *List) entries(f func(i int64, b []byte) error) error {
	const many = bufferSize / EntrySize
	buf := make([]byte, min(many, l.n)*EntrySize)
	for i := int64(0); i < l.n; {
		b := buf[:min(many, l.n-i)*EntrySize]
		if err := readFull(l.r, b, i*EntrySize); err != nil {
			return err
		}
		for ; len(b) > 0; b, i = b[EntrySize:], i+1 {
			if err := f(i, b[:EntrySize]); err != nil {
				return err
			}
		}
	}
	return nil
}

// readFull fills b, which lies within the length that was told.
func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read moved chunks at %d: %w", off, err)
}
