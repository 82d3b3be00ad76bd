package indexfile

import (
	"bytes"
	"fmt"
	"slices"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Fixed fills a fixed index in any order. It is safe for concurrent use.
type Fixed struct {
	name names.Archive
	file File

	mu     sync.Mutex
	header fidx.Header
	closed bool
	failed error // of a write; what it left in the slot is anybody's guess
}

var _ repo.FixedWriter = (*Fixed)(nil)

// NewFixed begins a fixed index. size -1 announces a stream, whose size Grow tells
// later.
func NewFixed(name names.Archive, size int64, chunkSize int, o Options) (*Fixed, error) {
	if name.Kind() != names.Fidx {
		return nil, fmt.Errorf("create index %s: want a name that ends in .fidx", name)
	}
	w := &Fixed{
		name:   name,
		header: fidx.Header{Ctime: o.Now.Unix(), ChunkSize: uint64(chunkSize)},
	}
	if size >= 0 {
		w.header.Size = uint64(size)
		if err := w.header.Validate(); err != nil {
			return nil, fmt.Errorf("create index %s: %w", name, err)
		}
	}
	var err error
	if w.file, err = o.create(&w.header.UUID); err != nil {
		return nil, fmt.Errorf("create index %s: %w", name, err)
	}
	return w, nil
}

// Set names the chunk of slot i.
func (w *Fixed) Set(i int, d digest.Digest) error { return w.SetRun(i, 1, d) }

// runBlock is how many slots are written at once.
const runBlock = 2048

// SetRun names the same chunk for n slots from i on.
func (w *Fixed) SetRun(i, n int, d digest.Digest) error {
	if n <= 1 {
		return w.write(i, n, d[:])
	}
	return w.write(i, n, bytes.Repeat(d[:], min(n, runBlock)))
}

// SetDigests names the chunks of the slots from first on.
func (w *Fixed) SetDigests(first int, ds []digest.Digest) error {
	table := make([]byte, 0, min(len(ds), runBlock)*digest.Size)
	for part := range slices.Chunk(ds, runBlock) {
		table = table[:0]
		for _, d := range part {
			table = append(table, d[:]...)
		}
		if err := w.write(first, len(part), table); err != nil {
			return err
		}
		first += len(part)
	}
	return nil
}

// write fills n slots from i on with the table block, again and again.
func (w *Fixed) write(i, n int, block []byte) error {
	w.mu.Lock()
	count := w.header.Count()
	w.mu.Unlock()
	if i < 0 || n < 0 || n > count-i {
		return fmt.Errorf("index %s: slots %d to %d of %d", w.name, i, i+n, count)
	}
	for n > 0 {
		k := min(n, len(block)/digest.Size)
		if _, err := w.file.WriteAt(block[:k*digest.Size], fidx.SlotOffset(i)); err != nil {
			w.mu.Lock()
			w.failed = err
			w.mu.Unlock()
			return fmt.Errorf("index %s: %w", w.name, err)
		}
		i, n = i+k, n-k
	}
	return nil
}

// Grow tells the size of a stream so far.
func (w *Fixed) Grow(size int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.header
	h.Size = uint64(size)
	if err := h.Validate(); err != nil {
		return fmt.Errorf("index %s: %w", w.name, err)
	}
	if size < 0 || h.Size < w.header.Size {
		return fmt.Errorf("index %s: size %d after %d", w.name, size, w.header.Size)
	}
	w.header = h
	return nil
}

// Close completes the index and settles its file.
func (w *Fixed) Close() (digest.Digest, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return digest.Digest{}, fmt.Errorf("index %s: closed twice", w.name)
	}
	w.closed = true
	sum, err := w.complete()
	if err := w.file.Settle(err); err != nil {
		return digest.Digest{}, fmt.Errorf("index %s: %w", w.name, err)
	}
	return sum, nil
}

func (w *Fixed) complete() (digest.Digest, error) {
	if w.failed != nil {
		return digest.Digest{}, fmt.Errorf("an earlier write failed: %w", w.failed)
	}
	if err := w.header.Validate(); err != nil {
		return digest.Digest{}, err
	}
	if err := w.file.Truncate(w.header.FileSize()); err != nil {
		return digest.Digest{}, err
	}
	if _, err := w.file.WriteAt(w.header.Append(nil), 0); err != nil {
		return digest.Digest{}, err
	}
	x, err := fidx.Open(w.file, w.header.FileSize())
	if err != nil {
		return digest.Digest{}, err
	}
	err = x.Each(func(i int, d digest.Digest) error {
		if d.IsZero() {
			return fmt.Errorf("slot %d of %d was never set", i, x.Count())
		}
		return nil
	})
	if err != nil {
		return digest.Digest{}, err
	}
	if w.header.Sum, err = x.Sum(); err != nil {
		return digest.Digest{}, err
	}
	_, err = w.file.WriteAt(w.header.Append(nil), 0)
	return w.header.Sum, err
}
