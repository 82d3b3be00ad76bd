package bucket

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/ledger"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

// Finish makes the snapshot visible and returns when it is.
func (b *Session) Finish(ctx context.Context, m *manifest.Manifest) error {
	if err := b.why(ctx, b.finish(ctx, m)); err != nil {
		return fmt.Errorf("finish backup %s: %w", b.name, err)
	}
	return nil
}

func (b *Session) finish(ctx context.Context, m *manifest.Manifest) error {
	files, err := b.complete(m)
	if err != nil {
		return err
	}
	if b.kind == catalog.Mend {
		if err := b.keepLog(ctx); err != nil {
			return err
		}
	}
	var wrote []catalog.Number
	if b.refill != nil {
		wrote, err = b.refill.settle(ctx)
	} else {
		b.chunks.pack.flush()
	}
	if err != nil {
		return err
	}
	x, err := b.locateAll(ctx, files)
	if err != nil {
		return err
	}
	defer func() { _ = x.file.Close() }() // it was stored, or is of no use
	rec, runs, err := b.storeAll(ctx, files, x)
	if err != nil {
		return err
	}
	if b.kind == catalog.Backup { // what comes back says how it was backed up
		m.SetUploadStats(manifest.UploadStats{
			Count: b.count.Load(), Size: b.plain.Load(),
			CompressedSize: b.encoded.Load(), Duplicates: b.duplicates.Load(),
		})
	}
	if rec.Manifest, err = m.Marshal(); err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil { // the last moment to stop
		return err
	}
	s := catalog.Success{Runs: runs, Snapshot: rec, Chunks: x, Wrote: wrote}
	if b.kind == catalog.Backup {
		s.Base = b.base
	}
	if err := b.commit(ctx, s); err != nil {
		return err
	}
	b.settle()
	return nil
}

// complete returns the files of a session that has all it needs.
func (b *Session) complete(m *manifest.Manifest) ([]*staged, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.ended:
		return nil, errEnded
	case len(b.open) > 0:
		return nil, errors.New("an index is still being written")
	case b.spoilt:
		return nil, errors.New("one of its indexes could not be written")
	case len(b.files) == 0 || len(m.Files) == 0:
		return nil, errors.New("it holds no archive")
	}
	files := slices.Clone(b.files)
	slices.SortFunc(files, func(x, y *staged) int { return strings.Compare(x.name.String(), y.name.String()) })
	return files, nil
}

// storeAll stores the object of the snapshot and the indexes of the session, and
// waits for its packs, side by side.
func (b *Session) storeAll(ctx context.Context, files []*staged, x *lies) (*catalog.Snapshot, []catalog.Run, error) {
	rec := &catalog.Snapshot{Session: b.number}
	body := &parts{}
	for _, f := range files {
		rec.Files = append(rec.Files, catalog.File{Name: f.name, Span: catalog.Span{Off: body.add(f, f.size), Len: f.size}})
	}
	rec.Map = catalog.Span{Off: body.add(x.file, x.size), Len: x.size}
	if body.size > objstore.MaxPut {
		return nil, nil, fmt.Errorf("its indexes have %d bytes together, at most %d fit into one object", body.size, int64(objstore.MaxPut))
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return b.repo.create(gctx, catalog.SnapshotObject(b.number), body) })
	var runs []catalog.Run
	if b.refill == nil {
		g.Go(b.chunks.pack.wait)
		g.Go(func() (err error) {
			runs, err = b.chunks.pack.storeIndexes(gctx)
			return err
		})
	}
	err := g.Wait()
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return rec, runs, err
}

// commit makes the entry that makes the snapshot visible.
func (b *Session) commit(ctx context.Context, s catalog.Success) error {
	_, err := b.repo.update(ctx, func(tx catalog.Tx) error { return catalog.Commit(tx, b.number, s) })
	if !errors.Is(err, ledger.ErrUnknown) {
		return err
	}
	state, verr := b.repo.now(ctx)
	if verr != nil {
		return errors.Join(err, verr)
	}
	if rec, ok, _ := catalog.Get[catalog.Snapshot](state, catalog.SnapshotKey(b.name)); ok && rec.Session == b.number {
		return nil
	}
	return err
}
