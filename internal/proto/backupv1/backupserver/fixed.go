package backupserver

import (
	"errors"
	"fmt"
	"math"
	"net/http"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/backupv1"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

func (b *Session) createFixed(_ http.ResponseWriter, r *http.Request) (any, error) {
	p, err := rest.Read(r)
	if err != nil {
		return nil, err
	}
	call, err := backupv1.ParseCreateFixed(p)
	if err != nil {
		return nil, err
	}
	return b.open(call.Name, func() (index, error) {
		if call.Reuse.IsZero() {
			return b.newFixed(call.Name, call.Size)
		}
		return b.reuseFixed(call)
	})
}

func (b *Session) appendFixed(_ http.ResponseWriter, r *http.Request) (any, error) {
	return b.append(r, names.Fidx)
}

func (b *Session) closeFixed(_ http.ResponseWriter, r *http.Request) (any, error) {
	return b.close(r, names.Fidx)
}

// fixedIndex is filled in any order.
type fixedIndex struct {
	w      repo.FixedWriter
	size   int64 // so far, if it is not known
	known  bool  // size is that of the image
	reused bool  // every slot has the chunk of the previous index to begin with
}

// newFixed makes an index of that size, 0 for one whose size shows as it comes.
func (b *Session) newFixed(name names.Archive, size int64) (*fixedIndex, error) {
	given := size
	if size == 0 {
		given = -1
	}
	w, err := b.ses.CreateFixed(name, given, backupv1.ChunkSize)
	if err != nil {
		return nil, err
	}
	return &fixedIndex{w: w, size: size, known: size > 0}, nil
}

// reuseFixed makes one that begins as the previous one.
func (b *Session) reuseFixed(call backupv1.CreateFixed) (*fixedIndex, error) {
	snap := b.ses.Previous()
	switch {
	case snap == nil:
		return nil, errors.New("cannot reuse index - no valid previous backup exists")
	case call.Size == 0:
		return nil, errors.New("cannot reuse index - the size of the image is not given")
	}
	old, c, err := snap.OpenFixed(call.Name)
	if err != nil {
		return nil, fmt.Errorf("cannot reuse index: %w", err)
	}
	defer func() { _ = c.Close() }() // was only read
	sum, err := old.Sum()
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot reuse index: %w", err)
	case sum != call.Reuse:
		return nil, fmt.Errorf("expected csum (%s) doesn't match last backup's (%s), cannot do incremental backup", call.Reuse, sum)
	case old.ChunkSize != backupv1.ChunkSize:
		return nil, fmt.Errorf("cannot reuse index - its chunks have %d bytes", old.ChunkSize)
	case old.Size != uint64(call.Size):
		return nil, fmt.Errorf("cannot reuse index - the image had %d bytes, now it has %d", old.Size, call.Size)
	}
	x, err := b.newFixed(call.Name, call.Size)
	if err != nil {
		return nil, err
	}
	x.reused = true
	if err := copyDigests(x.w, old); err != nil { // the index stays, incomplete, and nothing can be finished
		return nil, fmt.Errorf("cannot reuse index: %w", err)
	}
	b.log("reusing previous index %q", call.Name)
	return x, nil
}

// copyDigests fills an index with what another one of its size has.
func copyDigests(w repo.FixedWriter, old *fidx.Index) error {
	many, ok := w.(interface {
		SetDigests(first int, ds []digest.Digest) error
	})
	if !ok {
		return old.Each(w.Set)
	}
	var block [2048]digest.Digest
	for first := 0; first < old.Count(); first += len(block) {
		ds := block[:min(len(block), old.Count()-first)]
		if err := old.Digests(first, ds); err != nil {
			return err
		}
		if err := many.SetDigests(first, ds); err != nil {
			return err
		}
	}
	return nil
}

func (x *fixedIndex) add(d digest.Digest, n int64, offset uint64) error {
	const chunk = backupv1.ChunkSize
	if offset%chunk != 0 || n > chunk || offset > math.MaxInt64-chunk || offset/chunk > math.MaxInt32 {
		return fmt.Errorf("got unaligned or large chunk (offset %d, %d bytes)", offset, n)
	}
	end := int64(offset) + n
	switch {
	case x.known && end > x.size:
		return fmt.Errorf("chunk at %d ends at %d, behind the image's end at %d", offset, end, x.size)
	case x.known && n < chunk && end != x.size:
		return fmt.Errorf("chunk at %d has %d bytes and does not end the image", offset, n)
	case !x.known && n < chunk && end < x.size:
		return fmt.Errorf("chunk at %d has %d bytes and does not end the image", offset, n)
	}
	if !x.known && end > x.size {
		if err := x.w.Grow(end); err != nil {
			return err
		}
		x.size = end
	}
	if n < chunk {
		x.known = true // there can be nothing behind it
	}
	return x.w.Set(int(offset/chunk), d)
}

func (x *fixedIndex) fits(c backupv1.Close, count uint64) error {
	if x.reused {
		return nil
	}
	slots := (uint64(x.size) + backupv1.ChunkSize - 1) / backupv1.ChunkSize
	switch {
	case count != slots:
		return fmt.Errorf("unexpected chunk count (%d != %d)", count, slots)
	case slots == 0:
		return errors.New("it is empty")
	case c.Size != uint64(x.size):
		return fmt.Errorf("unexpected file size (%d != %d)", c.Size, x.size)
	}
	return nil
}

func (x *fixedIndex) close() (file, error) {
	sum, err := x.w.Close()
	return file{uint64(x.size), sum}, err
}
