package indexfile

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"math"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Dynamic appends to a dynamic index. Memory: one block of entries. It is not
// safe for concurrent use.
type Dynamic struct {
	name   names.Archive
	file   File
	header didx.Header
	sum    hash.Hash // over the table so far
	block  []byte    // entries that are not in the file yet
	off    int64     // where they go
	end    uint64    // of the last entry
	closed bool
	failed error // of a write; what it left in the file is anybody's guess
}

var _ repo.DynamicWriter = (*Dynamic)(nil)

// dynamicBlock is how many entries are written at once: 40 KiB.
const dynamicBlock = 1024

// NewDynamic begins a dynamic index.
func NewDynamic(name names.Archive, o Options) (*Dynamic, error) {
	if name.Kind() != names.Didx {
		return nil, fmt.Errorf("create index %s: want a name that ends in .didx", name)
	}
	w := &Dynamic{
		name:   name,
		header: didx.Header{Ctime: o.Now.Unix()},
		sum:    sha256.New(),
		block:  make([]byte, 0, dynamicBlock*didx.EntrySize),
		off:    didx.HeaderSize,
	}
	var err error
	if w.file, err = o.create(&w.header.UUID); err != nil {
		return nil, fmt.Errorf("create index %s: %w", name, err)
	}
	return w, nil
}

// Add appends one entry.
func (w *Dynamic) Add(end uint64, d digest.Digest) error {
	switch {
	case w.closed:
		return fmt.Errorf("index %s: an entry after it was closed", w.name)
	case w.failed != nil:
		return fmt.Errorf("index %s: an earlier write failed: %w", w.name, w.failed)
	case end <= w.end || end-w.end > blob.MaxChunk || end > math.MaxInt64:
		return fmt.Errorf("index %s: a chunk cannot begin at %d and end at %d", w.name, w.end, end)
	case d.IsZero():
		return fmt.Errorf("index %s: the chunk that ends at %d has no digest", w.name, end)
	}
	w.block = didx.Entry{End: end, Digest: d}.Append(w.block)
	w.end = end
	if len(w.block) == cap(w.block) {
		if w.failed = w.flush(); w.failed != nil {
			return fmt.Errorf("index %s: %w", w.name, w.failed)
		}
	}
	return nil
}

func (w *Dynamic) flush() error {
	w.sum.Write(w.block)
	n, err := w.file.WriteAt(w.block, w.off)
	w.off += int64(n)
	w.block = w.block[:0]
	return err
}

// Close completes the index and settles its file.
func (w *Dynamic) Close() (size uint64, csum digest.Digest, err error) {
	if w.closed {
		return 0, digest.Digest{}, fmt.Errorf("index %s: closed twice", w.name)
	}
	w.closed = true
	if err := w.file.Settle(w.complete()); err != nil {
		return 0, digest.Digest{}, fmt.Errorf("index %s: %w", w.name, err)
	}
	return w.end, w.header.Sum, nil
}

func (w *Dynamic) complete() error {
	switch {
	case w.failed != nil:
		return fmt.Errorf("an earlier write failed: %w", w.failed)
	case w.end == 0:
		return errors.New("it has no entries, and the format knows no empty archive")
	}
	if err := w.flush(); err != nil {
		return err
	}
	w.header.Sum = digest.Digest(w.sum.Sum(nil))
	_, err := w.file.WriteAt(w.header.Append(nil), 0)
	return err
}
