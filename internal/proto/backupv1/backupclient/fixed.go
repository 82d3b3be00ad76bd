package backupclient

import (
	"errors"
	"fmt"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/backupv1"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/spool"
)

// fixedWriter fills an index of the server. The checksum goes over all of it in
// order, while slots come in any, so a copy of the table is kept in a file.
type fixedWriter struct {
	w    *writer
	file *spool.File

	mu     sync.Mutex
	header fidx.Header
	closed bool
}

// CreateFixed begins a fixed index. size -1 announces a stream, which servers
// take from release 4.1.5 on.
func (b *Session) CreateFixed(name names.Archive, size int64, chunkSize int) (repo.FixedWriter, error) {
	if name.Kind() != names.Fidx {
		return nil, fmt.Errorf("create index %s: want a name that ends in .fidx", name)
	}
	if chunkSize != backupv1.ChunkSize {
		return nil, fmt.Errorf("create index %s: chunks of %d bytes: a server takes disk images in chunks of %d bytes only", name, chunkSize, backupv1.ChunkSize)
	}
	x := &fixedWriter{header: fidx.Header{ChunkSize: backupv1.ChunkSize}}
	if size >= 0 {
		x.header.Size = uint64(size)
		if err := x.header.Validate(); err != nil {
			return nil, fmt.Errorf("create index %s: %w", name, err)
		}
	}
	var err error
	if x.file, err = spool.Create(); err != nil {
		return nil, fmt.Errorf("create index %s: %w", name, err)
	}
	x.w, err = b.start(name, x.file, func() (int, error) {
		return b.wire.createFixed(b.ctx, backupv1.CreateFixed{Name: name, Size: max(size, 0)})
	})
	if err != nil {
		return nil, errors.Join(err, x.file.Close())
	}
	return x, nil
}

// Set names the chunk of slot i.
func (x *fixedWriter) Set(i int, d digest.Digest) error { return x.SetDigests(i, []digest.Digest{d}) }

// SetRun names the same chunk for n slots from i on.
func (x *fixedWriter) SetRun(i, n int, d digest.Digest) error {
	ds := make([]digest.Digest, min(n, batch))
	for k := range ds {
		ds[k] = d
	}
	for n > 0 {
		part := ds[:min(n, len(ds))]
		if err := x.SetDigests(i, part); err != nil {
			return err
		}
		i, n = i+len(part), n-len(part)
	}
	return nil
}

// SetDigests names the chunks of the slots from first on.
func (x *fixedWriter) SetDigests(first int, ds []digest.Digest) error {
	x.mu.Lock()
	count, closed := x.header.Count(), x.closed
	x.mu.Unlock()
	if closed {
		return fmt.Errorf("index %s: a slot after it was closed", x.w.name)
	}
	if first < 0 || len(ds) > count-first {
		return fmt.Errorf("index %s: slots %d to %d of %d", x.w.name, first, first+len(ds), count)
	}
	for len(ds) > 0 {
		part := ds[:min(len(ds), batch)]
		table := make([]byte, 0, len(part)*digest.Size)
		entries := make([]entry, len(part))
		for i, d := range part {
			table = append(table, d[:]...)
			entries[i] = entry{offset: uint64(first+i) * backupv1.ChunkSize, digest: d}
		}
		if _, err := x.file.WriteAt(table, fidx.SlotOffset(first)); err != nil {
			return fmt.Errorf("index %s: %w", x.w.name, err)
		}
		if err := x.w.add(entries...); err != nil {
			return fmt.Errorf("index %s: %w", x.w.name, err)
		}
		first, ds = first+len(part), ds[len(part):]
	}
	return nil
}

// Grow tells the size of a stream so far.
func (x *fixedWriter) Grow(size int64) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	h := x.header
	h.Size = uint64(size)
	if err := h.Validate(); err != nil {
		return fmt.Errorf("index %s: %w", x.w.name, err)
	}
	if size < 0 || h.Size < x.header.Size {
		return fmt.Errorf("index %s: size %d after %d", x.w.name, size, x.header.Size)
	}
	x.header = h
	return nil
}

// Close completes the index.
func (x *fixedWriter) Close() (digest.Digest, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return digest.Digest{}, fmt.Errorf("index %s: %w", x.w.name, errClosed)
	}
	x.closed = true
	sum, err := x.sum()
	if err == nil {
		err = x.w.finish(x.header.Size, sum)
	}
	return sum, x.w.settle(err)
}

// sum computes the checksum, and makes sure that every slot was set.
func (x *fixedWriter) sum() (digest.Digest, error) {
	if err := x.header.Validate(); err != nil {
		return digest.Digest{}, err
	}
	if err := x.file.Truncate(x.header.FileSize()); err != nil {
		return digest.Digest{}, err
	}
	if _, err := x.file.WriteAt(x.header.Append(nil), 0); err != nil {
		return digest.Digest{}, err
	}
	idx, err := fidx.Open(x.file, x.header.FileSize())
	if err != nil {
		return digest.Digest{}, err
	}
	err = idx.Each(func(i int, d digest.Digest) error {
		if d.IsZero() {
			return fmt.Errorf("slot %d of %d was never set", i, idx.Count())
		}
		return nil
	})
	if err != nil {
		return digest.Digest{}, err
	}
	return idx.Sum()
}
