// Package chunkmap reads and writes where the chunks of one snapshot lie: the
// end of its object in a bucket.
//
// # Layout
//
// An entry of 28 bytes for each chunk, then one of 16 bytes for each pack, then
// the footer of 52 bytes. So it is written in one go, and in constant memory but
// for the packs. Integers are little-endian where nothing else is said.
//
//	offset  size  of a chunk, in ascending order of the digests
//	0       16    the first bytes of its digest
//	16      4     its pack: number in the list, from 0
//	20      4     where in the pack it begins
//	24      4     length of the encoded chunk, at least 1
//
//	offset  size  of a pack, in the order in which chunks first name them
//	0       12    its name (internal/format/pack)
//	12      4     length of the whole pack
//
//	offset  size  footer
//	0       8     number of chunks
//	8       4     number of packs
//	12      32    SHA-256 of everything before this field
//	44      8     "HFCMAP01"
//
// A snapshot that names no chunks has an empty one, which is a footer alone. Of
// two different digests with the same 16 bytes, which nobody has ever seen, the
// second is refused when it is written.
//
// # Errors
//
// Bytes that are no chunk map give an error wrapping [ErrFormat]. [Open] compares the
// checksum and checks all entries, so what it opened can only fail to be read.
package chunkmap

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
)

// Sizes in bytes.
const (
	PrefixSize = 16
	EntrySize  = PrefixSize + 12
	PackSize   = pack.IDSize + 4
	FooterSize = 52
)

const (
	offChunks = 0
	offPacks  = 8
	offSum    = 12
	offMagic  = 44
)

const magic = "HFCMAP01"

var (
	// ErrFormat is wrapped when bytes are not a chunk map.
	ErrFormat = errors.New("not a valid chunk map")
	// ErrOrder is wrapped when a chunk does not follow the one before.
	ErrOrder = errors.New("chunks out of order")
)

// Pack is a pack that the snapshot needs.
type Pack struct {
	ID   pack.ID
	Size uint32 // of the whole object, bytes
}

// Writer writes a chunk map. It holds the names of the packs.
type Writer struct {
	w     io.Writer
	sum   hash.Hash
	last  digest.Digest
	n     uint64
	known map[pack.ID]uint32
	ids   []pack.ID
	buf   []byte
	size  int64
	err   error
}

// bufferSize is how much is collected for one write.
const bufferSize = 64 << 10

// NewWriter begins a chunk map. It writes in large pieces.
func NewWriter(w io.Writer) *Writer {
	return &Writer{w: w, sum: sha256.New(), known: map[pack.ID]uint32{}}
}

// Add says where a chunk lies. Digests must ascend.
func (w *Writer) Add(d digest.Digest, l pack.Location) error {
	if err := l.Check(); err != nil {
		return err
	}
	if w.n > 0 && bytes.Compare(d[:PrefixSize], w.last[:PrefixSize]) <= 0 {
		return fmt.Errorf("chunk map: %w: %s behind %s", ErrOrder, d, w.last)
	}
	i, ok := w.known[l.Pack]
	if !ok {
		i = uint32(len(w.ids))
		w.known[l.Pack] = i
		w.ids = append(w.ids, l.Pack)
	}
	w.buf = append(w.buf, d[:PrefixSize]...)
	w.buf = binary.LittleEndian.AppendUint32(w.buf, i)
	w.buf = binary.LittleEndian.AppendUint32(w.buf, l.Off)
	w.buf = binary.LittleEndian.AppendUint32(w.buf, l.Len)
	w.last = d
	w.n++
	if len(w.buf) >= bufferSize {
		return w.flush()
	}
	return w.err
}

// Packs returns the packs named so far, in the order in which they came.
func (w *Writer) Packs() []pack.ID { return w.ids }

// Close completes the map and returns its length. size says how long each pack
// is.
func (w *Writer) Close(size func(pack.ID) (uint32, error)) (int64, error) {
	for _, id := range w.ids {
		n, err := size(id)
		if err != nil {
			return 0, err
		}
		w.buf = binary.LittleEndian.AppendUint32(id.Append(w.buf), n)
	}
	w.buf = binary.LittleEndian.AppendUint64(w.buf, w.n)
	w.buf = binary.LittleEndian.AppendUint32(w.buf, uint32(len(w.ids)))
	if err := w.flush(); err != nil {
		return 0, err
	}
	w.buf = append(w.sum.Sum(w.buf), magic...)
	err := w.flush()
	return w.size, err
}

func (w *Writer) flush() error {
	if w.err != nil {
		return w.err
	}
	if _, w.err = w.w.Write(w.buf); w.err != nil {
		return w.err
	}
	w.sum.Write(w.buf)
	w.size += int64(len(w.buf))
	w.buf = w.buf[:0]
	return nil
}

// Map reads a chunk map through an [io.ReaderAt]. It holds the packs and a digest
// of every 146th chunk, 16 bytes for 4 KiB, and is safe for concurrent use if the reader is.
type Map struct {
	r      io.ReaderAt
	chunks int64
	packs  []Pack
	sparse [][PrefixSize]byte // of the first chunk of each block
}

// perBlock is how many entries a search reads.
const perBlock = (4 << 10) / EntrySize

// Open reads all of a chunk map of size bytes once. It keeps r.
func Open(r io.ReaderAt, size int64) (*Map, error) {
	if size < FooterSize {
		return nil, fmt.Errorf("%w: %d bytes, the footer alone has %d", ErrFormat, size, FooterSize)
	}
	var footer [FooterSize]byte
	if err := readFull(r, footer[:], size-FooterSize); err != nil {
		return nil, err
	}
	if !bytes.Equal(footer[offMagic:], []byte(magic)) {
		return nil, fmt.Errorf("%w: it ends in %x", ErrFormat, footer[offMagic:])
	}
	chunks, packs := binary.LittleEndian.Uint64(footer[offChunks:]), int64(binary.LittleEndian.Uint32(footer[offPacks:]))
	if chunks > math.MaxInt64/EntrySize || uint64(packs) > chunks || size-FooterSize-packs*PackSize != int64(chunks)*EntrySize {
		return nil, fmt.Errorf("%w: %d chunks and %d packs in %d bytes", ErrFormat, chunks, packs, size)
	}
	m := &Map{r: r, chunks: int64(chunks)}
	sum := sha256.New()
	if err := m.readPacks(packs); err != nil {
		return nil, err
	}
	if err := m.check(sum); err != nil {
		return nil, err
	}
	var b []byte
	for _, p := range m.packs {
		b = binary.LittleEndian.AppendUint32(p.ID.Append(b[:0]), p.Size)
		sum.Write(b)
	}
	sum.Write(footer[:offSum])
	if !bytes.Equal(sum.Sum(nil), footer[offSum:offMagic]) {
		return nil, fmt.Errorf("%w: it has another checksum than it says", ErrFormat)
	}
	return m, nil
}

func (m *Map) readPacks(n int64) error {
	m.packs = make([]Pack, n) // no more than the length of the file allows
	buf := make([]byte, min(n*PackSize, bufferSize))
	for i := int64(0); i < n; {
		b := buf[:min((n-i)*PackSize, int64(len(buf)))]
		if err := readFull(m.r, b, m.chunks*EntrySize+i*PackSize); err != nil {
			return err
		}
		for ; len(b) > 0; b = b[PackSize:] {
			m.packs[i] = Pack{pack.IDFrom(b), binary.LittleEndian.Uint32(b[pack.IDSize:])}
			i++
		}
	}
	return nil
}

// check looks at every entry.
func (m *Map) check(sum hash.Hash) error {
	var last [PrefixSize]byte
	return m.blocks(func(first int64, b []byte) error {
		sum.Write(b)
		m.sparse = append(m.sparse, [PrefixSize]byte(b))
		for i := first; len(b) > 0; b, i = b[EntrySize:], i+1 {
			if i > 0 && bytes.Compare(last[:], b[:PrefixSize]) >= 0 {
				return fmt.Errorf("%w: chunk %d is not behind the one before", ErrFormat, i)
			}
			copy(last[:], b)
			if _, err := m.location(b); err != nil {
				return fmt.Errorf("chunk %d: %w", i, err)
			}
		}
		return nil
	})
}

// Chunks is how many there are.
func (m *Map) Chunks() int64 { return m.chunks }

// Packs are those that the snapshot needs; the list is not to be changed.
func (m *Map) Packs() []Pack { return m.packs }

// Find searches a chunk. A digest that shares its first 16 bytes with that of
// another is taken for it: who reads the chunk compares it with its name.
func (m *Map) Find(d digest.Digest) (pack.Location, bool, error) {
	lo, hi := 0, len(m.sparse) // the first block that begins behind d
	for lo < hi {
		mid := lo + (hi-lo)/2
		if bytes.Compare(m.sparse[mid][:], d[:PrefixSize]) > 0 {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	if lo == 0 {
		return pack.Location{}, false, nil
	}
	first := int64(lo-1) * perBlock
	var buf [perBlock * EntrySize]byte
	b := buf[:min(perBlock, m.chunks-first)*EntrySize]
	if err := readFull(m.r, b, first*EntrySize); err != nil {
		return pack.Location{}, false, err
	}
	at, end := 0, len(b)/EntrySize
	for at < end {
		mid := at + (end-at)/2
		switch bytes.Compare(b[mid*EntrySize:][:PrefixSize], d[:PrefixSize]) {
		case 0:
			l, err := m.location(b[mid*EntrySize:])
			return l, err == nil, err
		case -1:
			at = mid + 1
		default:
			end = mid
		}
	}
	return pack.Location{}, false, nil
}

// Each calls f for every chunk in ascending order, and stops at its first error,
// which it returns as it is.
func (m *Map) Each(f func(prefix [PrefixSize]byte, l pack.Location) error) error {
	return m.blocks(func(_ int64, b []byte) error {
		for ; len(b) > 0; b = b[EntrySize:] {
			l, err := m.location(b)
			if err == nil {
				err = f([PrefixSize]byte(b), l)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// location decodes an entry.
func (m *Map) location(b []byte) (pack.Location, error) {
	b = b[PrefixSize:]
	n := binary.LittleEndian.Uint32(b)
	if uint64(n) >= uint64(len(m.packs)) {
		return pack.Location{}, fmt.Errorf("%w: pack %d of %d", ErrFormat, n, len(m.packs))
	}
	p := m.packs[n]
	l := pack.Location{Pack: p.ID, Off: binary.LittleEndian.Uint32(b[4:]), Len: binary.LittleEndian.Uint32(b[8:])}
	if err := l.Check(); err != nil {
		return pack.Location{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if uint64(l.Off)+uint64(l.Len) > uint64(p.Size) {
		return pack.Location{}, fmt.Errorf("%w: %d bytes at %d of pack %s, which has %d", ErrFormat, l.Len, l.Off, l.Pack, p.Size)
	}
	return l, nil
}

// blocks hands all entries to f, a block at a time.
func (m *Map) blocks(f func(first int64, b []byte) error) error {
	const many = 16 * perBlock
	buf := make([]byte, min(many, m.chunks)*EntrySize)
	for first := int64(0); first < m.chunks; first += many {
		b := buf[:min(many, m.chunks-first)*EntrySize]
		if err := readFull(m.r, b, first*EntrySize); err != nil {
			return err
		}
		for i := int64(0); len(b) > 0; i += perBlock {
			n := min(perBlock*EntrySize, len(b))
			if err := f(first+i, b[:n]); err != nil {
				return err
			}
			b = b[n:]
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
	return fmt.Errorf("read chunk map at %d: %w", off, err)
}
