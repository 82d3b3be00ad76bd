package amend

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/image/archive"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// amendment is a run under way.
type amendment struct {
	plan *Plan
	base repo.Snapshot
	s    repo.Session
}

func (a *amendment) archive(ctx context.Context, w item) (backup.Result, error) {
	if w.file.Archive().Kind() == names.Blob {
		return a.blob(ctx, w)
	}
	if w.file.Archive().Kind() == names.Didx {
		return a.tree(ctx, w)
	}
	if w.content != nil {
		return a.image(ctx, w, w.content, w.content.ChangeAt)
	}
	img, err := archive.Open(ctx, a.base, w.file.Archive(), a.plan.Options.Key, archive.Options{})
	if err != nil {
		return backup.Result{}, err
	}
	same := func(off int64) (image.Extent, error) {
		return image.Extent{Offset: off, Length: img.Size() - off, Kind: image.Unchanged}, nil
	}
	done, err := a.image(ctx, w, img, same)
	return done, errors.Join(err, img.Close())
}

// blob carries a small file over as it is stored.
func (a *amendment) blob(ctx context.Context, w item) (backup.Result, error) {
	raw, err := a.base.Blob(w.file.Archive())
	if err == nil {
		err = a.s.PutBlob(ctx, w.file.Archive(), raw)
	}
	return backup.Result{Archive: w.file, Stats: backup.Stats{Unchanged: backup.Count{Bytes: int64(len(raw))}}}, err
}

// image writes one index.
func (a *amendment) image(ctx context.Context, w item, img image.Image, change func(int64) (image.Extent, error)) (_ backup.Result, err error) {
	idx, closer, err := a.base.OpenFixed(w.file.Archive())
	if err != nil {
		return backup.Result{}, err
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	m := &merged{Image: img, change: change, base: idx}
	if err := m.openPrevious(a.s.Previous(), a.base.Name(), w.file.Archive()); err != nil {
		return backup.Result{}, err
	}
	defer m.close()
	opts := a.plan.Options
	opts.ChunkSize, opts.CryptMode = int(idx.ChunkSize), w.file.CryptMode
	writer, err := backup.NewWriter(a.s, opts)
	if err != nil {
		return backup.Result{}, err
	}
	defer writer.Close()
	return writer.Image(ctx, w.file.Archive(), m)
}

// merged is an image whose extents are Unchanged where neither the overlay
// changed something since the base nor the base differs from the previous
// snapshot.
type merged struct {
	image.Image
	change func(off int64) (image.Extent, error) // since the base
	base   *fidx.Index
	prev   *fidx.Index // nil: of no use
	same   bool        // base and previous are one snapshot
	closer io.Closer
}

var (
	_ image.Extenter = (*merged)(nil)
	_ image.Adviser  = (*merged)(nil)
)

// openPrevious opens the previous index if slots of both mean the same; whether
// its digests may be used is for the writer to say.
func (m *merged) openPrevious(prev repo.Snapshot, base names.Snapshot, name names.Archive) error {
	if prev == nil {
		return nil
	}
	if m.same = prev.Name() == base; m.same {
		return nil
	}
	if _, ok := prev.Manifest().File(string(name)); !ok {
		return nil
	}
	idx, closer, err := prev.OpenFixed(name)
	if err != nil {
		return nil //nolint:nilerr // the writer notes why it is of no use
	}
	if idx.Size != m.base.Size || idx.ChunkSize != m.base.ChunkSize {
		return closer.Close()
	}
	m.prev, m.closer = idx, closer
	return nil
}

func (m *merged) close() {
	if m.closer != nil {
		_ = m.closer.Close() // was only read
	}
}

// ExtentAt finds out who changed what, in pieces.
func (m *merged) ExtentAt(off int64) (image.Extent, error) {
	e, err := m.change(off)
	if err != nil || e.Kind != image.Unchanged || m.same {
		return e, err
	}
	kept := false
	if m.prev != nil {
		end := e.End()
		if end, kept, err = m.compare(off, end); err != nil {
			return image.Extent{}, err
		}
		e.Length = min(e.Length, end-off)
	}
	if kept {
		return e, nil
	}
	below, err := image.ExtentAt(m.Image, off)
	below.Length = min(below.Length, e.Length)
	return below, err
}

// batch is how many digests are compared at a time.
const batch = 256

// compare finds how far from off on slots are the same in both indexes, or
// all are not.
func (m *merged) compare(off, limit int64) (end int64, same bool, err error) {
	chunk := int64(m.base.ChunkSize)
	first := int(off / chunk)
	var a, b [batch]digest.Digest
	n := min(batch, m.base.Count()-first, int((limit-1)/chunk)-first+1)
	if err := m.base.Digests(first, a[:n]); err != nil {
		return 0, false, fmt.Errorf("index of the base: %w", err)
	}
	if err := m.prev.Digests(first, b[:n]); err != nil {
		return 0, false, fmt.Errorf("index of the previous snapshot: %w", err)
	}
	k := 1
	for same = a[0] == b[0]; k < n && (a[k] == b[k]) == same; k++ {
	}
	return int64(first+k) * chunk, same, nil
}

// WillNeed passes the hint on.
func (m *merged) WillNeed(off, n int64) { image.WillNeed(m.Image, off, n) }
