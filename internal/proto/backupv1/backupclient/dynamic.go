package backupclient

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
	"github.com/holdfast-backup/holdfast/internal/proto/backupv1"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// dynamicWriter appends to an index of the server.
type dynamicWriter struct {
	w      *writer
	sum    hash.Hash // over the entries so far
	entry  [didx.EntrySize]byte
	end    uint64
	closed bool
}

// CreateDynamic begins a dynamic index.
func (b *Session) CreateDynamic(name names.Archive) (repo.DynamicWriter, error) {
	if name.Kind() != names.Didx {
		return nil, fmt.Errorf("create index %s: want a name that ends in .didx", name)
	}
	w, err := b.start(name, nil, func() (int, error) {
		return b.wire.createDynamic(b.ctx, backupv1.CreateDynamic{Name: name})
	})
	if err != nil {
		return nil, err
	}
	return &dynamicWriter{w: w, sum: sha256.New()}, nil
}

// Add appends one entry.
func (x *dynamicWriter) Add(end uint64, d digest.Digest) error {
	switch {
	case x.closed:
		return fmt.Errorf("index %s: an entry after it was closed", x.w.name)
	case end <= x.end || end-x.end > blob.MaxChunk || end > math.MaxInt64:
		return fmt.Errorf("index %s: a chunk cannot begin at %d and end at %d", x.w.name, x.end, end)
	case d.IsZero():
		return fmt.Errorf("index %s: the chunk that ends at %d has no digest", x.w.name, end)
	}
	if err := x.w.add(entry{offset: x.end, digest: d}); err != nil {
		return fmt.Errorf("index %s: %w", x.w.name, err)
	}
	x.sum.Write(didx.Entry{End: end, Digest: d}.Append(x.entry[:0]))
	x.end = end
	return nil
}

// Close completes the index.
func (x *dynamicWriter) Close() (size uint64, csum digest.Digest, err error) {
	if x.closed {
		return 0, digest.Digest{}, fmt.Errorf("index %s: %w", x.w.name, errClosed)
	}
	x.closed = true
	if x.end == 0 {
		err = errors.New("it has no entries, and the format knows no empty archive")
	}
	csum = digest.Digest(x.sum.Sum(nil))
	if err == nil {
		err = x.w.finish(x.end, csum)
	}
	if err := x.w.settle(err); err != nil {
		return 0, digest.Digest{}, err
	}
	return x.end, csum, nil
}
