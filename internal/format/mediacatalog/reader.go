package mediacatalog

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/digest"
)

// What ended a log before its end.
var (
	ErrTorn    = errors.New("the catalog was not written to its end")
	ErrCorrupt = errors.New("the catalog is damaged")
)

// Reader reads the records of a log. It holds one record and 64 KiB.
type Reader struct {
	r     *bufio.Reader
	off   int64 // of what comes next
	good  int64
	state State // behind the last record
	sound State // at good
	rec   Record
	buf   []byte // what was taken last
	err   error
}

// NewReader reads from the start of a log.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReaderSize(r, 64<<10)} }

// Resume reads on at an offset in a log, where it is in a state.
func Resume(r io.Reader, off int64, s State) *Reader {
	n := NewReader(r)
	n.off, n.good, n.state, n.sound = off, off, s, s
	return n
}

// Good is the length of the part that is known to be good. It never lies within a
// record or an archive.
func (r *Reader) Good() int64 { return r.good }

// Offset is where reading has come to, or has ended.
func (r *Reader) Offset() int64 { return r.off }

// State is the state of the good part, for who cuts the log there and goes on.
func (r *Reader) State() State { return r.sound }

// Next returns the next record, which is valid until the next call. Behind the
// last one the error is io.EOF. Every error stays.
func (r *Reader) Next() (*Record, error) {
	if r.err != nil {
		return nil, r.err
	}
	if !r.state.begun {
		if r.err = r.magic(); r.err != nil {
			return nil, r.err
		}
	}
	if r.err = r.next(); r.err != nil {
		return nil, r.err
	}
	if !r.state.open {
		r.good, r.sound = r.off, r.state
	}
	return &r.rec, nil
}

func (r *Reader) magic() error {
	b, err := r.take(MagicSize)
	if err != nil {
		return err
	}
	switch [8]byte(b) {
	case magic:
		r.state.begun = true
		r.good, r.sound = r.off, r.state
		return nil
	case oldMagic:
		return fmt.Errorf("%w: it is of version 1.0, which was never released", ErrCorrupt)
	}
	return fmt.Errorf("%w: it begins with %x", ErrCorrupt, b)
}

func (r *Reader) next() error {
	if r.state.open && r.chunk() {
		return nil
	}
	at := r.off
	b, err := r.take(1)
	if errors.Is(err, io.EOF) && r.state.open {
		return fmt.Errorf("%w: it ends in the archive of file %d", ErrTorn, r.state.in.File)
	}
	if err != nil {
		return err
	}
	kind := Kind(b[0])
	n := kind.body()
	if n == 0 {
		return fmt.Errorf("%w: a record with tag %#02x at byte %d", ErrCorrupt, b[0], at)
	}
	if b, err = r.inside(n, at); err != nil {
		return err
	}
	if kind == Chunk {
		if !r.state.open {
			return fmt.Errorf("%w: a chunk outside archives at byte %d", ErrCorrupt, at)
		}
		r.rec.Kind, r.rec.Digest, r.rec.Offset = Chunk, digest.Digest(b), at
		return nil
	}
	le := binary.LittleEndian
	r.rec = Record{Kind: kind, File: le.Uint64(b), UUID: uuid.UUID(b[offUUID : offUUID+16]), Offset: at}
	switch kind {
	case Label:
		r.rec.Seq = le.Uint64(b[offSeq:])
		err = r.state.label(r.rec.File)
	case ArchiveStart:
		if err := r.readNames(at, int(b[offStore]), 0); err != nil {
			return err
		}
		err = r.state.start(r.rec)
	case ArchiveEnd:
		r.rec.Store = r.state.in.Store
		err = r.state.end(r.rec)
	case Snapshot:
		if err := r.readNames(at, int(b[offStore]), int(le.Uint16(b[offPath:]))); err != nil {
			return err
		}
		err = r.state.snapshot(r.rec)
	}
	if err != nil {
		return fmt.Errorf("%w: at byte %d: %w", ErrCorrupt, at, err)
	}
	return nil
}

// chunk reads a whole chunk, which most records are, in one step. It leaves
// everything else.
func (r *Reader) chunk() bool {
	b, err := r.r.Peek(ChunkSize)
	if err != nil || Kind(b[0]) != Chunk {
		return false
	}
	r.rec.Kind, r.rec.Digest, r.rec.Offset = Chunk, digest.Digest(b[1:]), r.off
	_, _ = r.r.Discard(ChunkSize) // they were just seen
	r.off += int64(ChunkSize)
	return true
}

// readNames reads what follows an archive's or a snapshot's numbers.
func (r *Reader) readNames(at int64, store, path int) error {
	n := store
	if r.rec.Kind == Snapshot {
		n += 1 + path
	}
	b, err := r.inside(n, at)
	if err != nil {
		return err
	}
	r.rec.Store = string(b[:store])
	if r.rec.Kind == Snapshot {
		if b[store] != ':' {
			return fmt.Errorf("%w: a snapshot without ':' at byte %d", ErrCorrupt, at)
		}
		r.rec.Path = string(b[store+1:])
	}
	return nil
}

// inside reads n bytes of the record at a byte, which must be there.
func (r *Reader) inside(n int, at int64) ([]byte, error) {
	b, err := r.take(n)
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: it ends within the record at byte %d", ErrTorn, at)
	}
	return b, err
}

// take reads n bytes: all, or none and io.EOF, or ErrTorn.
func (r *Reader) take(n int) ([]byte, error) {
	if cap(r.buf) < n {
		r.buf = make([]byte, n)
	}
	b := r.buf[:n]
	got, err := io.ReadFull(r.r, b)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("%w: it ends at byte %d", ErrTorn, r.off+int64(got))
	}
	if err != nil {
		return nil, err
	}
	r.off += int64(n)
	return b, nil
}
