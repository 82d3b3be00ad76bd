package datastore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// fixedWriter fills an index file in any order, under a temporary name that
// no reader and no garbage collection looks at.
type fixedWriter struct {
	session *Session
	name    names.Archive
	temp    string
	file    vfs.File

	mu     sync.Mutex
	header fidx.Header
	closed bool
	failed error // of a write; what it left in the slot is anybody's guess
}

// CreateFixed begins a fixed index. size -1 announces a stream, whose size
// Grow tells later.
func (b *Session) CreateFixed(name names.Archive, size int64, chunkSize int) (repo.FixedWriter, error) {
	if name.Kind() != names.Fidx {
		return nil, fmt.Errorf("create index %s: want a name that ends in .fidx", name)
	}
	w := &fixedWriter{
		session: b,
		name:    name,
		temp:    b.name.Path() + "/" + name.ClientName() + ".tmp_fidx",
		header:  fidx.Header{Ctime: b.store.fs.Now().Unix(), ChunkSize: uint64(chunkSize)},
	}
	if _, err := io.ReadFull(b.store.opt.Rand, w.header.UUID[:]); err != nil {
		return nil, fmt.Errorf("create index %s: %w", name, err)
	}
	if size >= 0 {
		w.header.Size = uint64(size)
		if err := w.header.Validate(); err != nil {
			return nil, fmt.Errorf("create index %s: %w", name, err)
		}
	}
	for _, taken := range []string{w.temp, b.name.Path() + "/" + name.String()} {
		there, err := exists(b.store.fs, taken)
		if err != nil {
			return nil, fmt.Errorf("create index %s: %w", name, err)
		}
		if there {
			return nil, fmt.Errorf("create index %s: %w", name, repo.ErrExists)
		}
	}
	f, err := b.store.fs.Create(w.temp, filePerm)
	if err != nil {
		return nil, fmt.Errorf("create index %s: %w", name, err)
	}
	w.file = f
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open++
	return w, nil
}

// Set names the chunk of slot i.
func (w *fixedWriter) Set(i int, d digest.Digest) error { return w.SetRun(i, 1, d) }

// runBlock is how many slots are written at once.
const runBlock = 2048

// SetRun names the same chunk for n slots from i on.
func (w *fixedWriter) SetRun(i, n int, d digest.Digest) error {
	if n <= 1 {
		return w.write(i, n, d[:])
	}
	return w.write(i, n, bytes.Repeat(d[:], min(n, runBlock)))
}

// SetDigests names the chunks of the slots from first on.
func (w *fixedWriter) SetDigests(first int, ds []digest.Digest) error {
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
func (w *fixedWriter) write(i, n int, block []byte) error {
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
func (w *fixedWriter) Grow(size int64) error {
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

// Close completes the index and gives it its name. Its content is durable
// before the name is, for an index with a name but without content would stop
// the garbage collection of a PBS.
func (w *fixedWriter) Close() (digest.Digest, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return digest.Digest{}, fmt.Errorf("index %s: closed twice", w.name)
	}
	w.closed = true
	sum, err := w.complete()
	if cerr := w.file.Close(); err == nil {
		err = cerr
	}
	store := w.session.store
	if err == nil {
		err = store.fs.Rename(w.temp, w.session.name.Path()+"/"+w.name.String())
	}
	if err != nil {
		return digest.Digest{}, fmt.Errorf("index %s: %w", w.name, errors.Join(err, ignoreMissing(store.fs.Remove(w.temp))))
	}
	w.session.mu.Lock()
	defer w.session.mu.Unlock()
	w.session.open--
	w.session.files++
	return sum, nil
}

func (w *fixedWriter) complete() (digest.Digest, error) {
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
	if _, err := w.file.WriteAt(w.header.Append(nil), 0); err != nil {
		return digest.Digest{}, err
	}
	if w.session.store.opt.Sync == SyncNone {
		return w.header.Sum, nil
	}
	return w.header.Sum, w.file.Sync()
}
