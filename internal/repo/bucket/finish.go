package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/chunkmap"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/format/packindex"
	"github.com/holdfast-backup/holdfast/internal/ledger"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/lookup"
	"github.com/holdfast-backup/holdfast/internal/repo/spool"
)

// Finish makes the snapshot visible and returns when it is.
func (b *Session) Finish(ctx context.Context, m *manifest.Manifest) error {
	if err := b.finish(ctx, m); err != nil {
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

// locateAll makes the chunk map.
func (b *Session) locateAll(ctx context.Context, files []*staged) (_ *lies, err error) {
	needed, err := needs(files)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, needed.Close()) }()
	f, err := spool.Create()
	if err != nil {
		return nil, err
	}
	w := chunkmap.NewWriter(io.NewOffsetWriter(f, 0))
	x := &lies{file: f}
	if err := b.resolve(ctx, func(r *resolver) error { return r.mapOf(ctx, needed, w) }); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	x.packs = w.Packs()
	size, err := b.packSizes(ctx, x.packs)
	if err == nil {
		x.size, err = w.Close(size)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return x, nil
}

// resolve calls f with what finds the session's chunks.
func (b *Session) resolve(ctx context.Context, f func(*resolver) error) error {
	state := b.repo.log.Seen()
	r := &resolver{
		may: b.chunks.view.May, find: b.chunks.view.Find,
		follow: func(ctx context.Context, l pack.Location) (pack.Location, bool, error) {
			return b.repo.moves.Follow(ctx, state, l, lookup.Every)
		},
	}
	var err error
	if r.bad, err = badChunks(state); err != nil {
		return err
	}
	base, err := b.baseMap(ctx)
	if err != nil {
		return err
	}
	if base != nil {
		r.base = newBaseCursor(base)
		defer r.base.stop()
	}
	return b.chunks.sorted(func(own, found *cursor) error {
		r.own, r.found = own, found
		return f(r)
	})
}

// baseMap is the chunk map of the base, nil when there is none. One that is damaged says
// nothing, and the indexes are asked.
func (b *Session) baseMap(ctx context.Context) (*chunkmap.Map, error) {
	if b.prev == nil {
		return nil, nil
	}
	m, err := b.prev.Map(ctx)
	if _, bad := errors.AsType[*repo.CorruptError](err); bad {
		return nil, nil
	}
	return m, err
}

// badChunks are those found damaged.
func badChunks(state catalog.Reader) (map[digest.Digest]catalog.Bad, error) {
	all := map[digest.Digest]catalog.Bad{}
	for key, raw := range state.Scan(catalog.BadPrefix) {
		bad, err := catalog.Parse[catalog.Bad](key, raw)
		if err != nil {
			return nil, err
		}
		d, err := digest.Parse(strings.TrimPrefix(key, catalog.BadPrefix))
		if err != nil {
			return nil, err
		}
		all[d] = bad
	}
	return all, nil
}

// packSizes returns a function that says how long a pack is.
func (b *Session) packSizes(ctx context.Context, packs []pack.ID) (func(pack.ID) (uint32, error), error) {
	known := map[pack.ID]uint32{}
	base, err := b.baseMap(ctx)
	if err != nil {
		return nil, err
	}
	if base != nil {
		for _, p := range base.Packs() {
			known[p.ID] = p.Size
		}
	}
	var foreign []pack.ID
	for _, id := range packs {
		if size, own := b.chunks.packSize(id); own {
			known[id] = size
		} else if _, ok := known[id]; !ok {
			foreign = append(foreign, id)
		}
	}
	sizes, err := b.repo.sizes(ctx, foreign)
	return func(id pack.ID) (uint32, error) {
		if n, ok := sizes[id]; ok {
			return n, nil
		}
		return known[id], nil
	}, err
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

// indexChunks is how many chunks an index has at most.
const indexChunks = 64 << 10

// storeIndexes stores where the chunks of the session lie.
func (p *packer) storeIndexes(ctx context.Context) (runs []catalog.Run, err error) {
	var x *newIndex
	store := func() error {
		run, err := x.store(ctx, p, uint32(len(runs)))
		x = nil
		runs = append(runs, run)
		return err
	}
	defer func() {
		if x != nil {
			err = errors.Join(err, x.file.Close())
		}
	}()
	var last digest.Digest
	for rec, err := range p.placed.All() {
		if err != nil {
			return nil, err
		}
		e := packindex.Entry{Digest: digest.Digest(rec), Location: placeOf(rec)}
		if e.Digest == last { // the session had forgotten it
			continue
		}
		last = e.Digest
		if x == nil {
			if x, err = beginIndex(); err != nil {
				return nil, err
			}
		}
		if err := x.add(e); err != nil {
			return nil, err
		}
		if x.w.Chunks() == indexChunks {
			if err := store(); err != nil {
				return nil, err
			}
		}
	}
	if x != nil {
		return runs, store()
	}
	return runs, nil
}

// newIndex is an index being written.
type newIndex struct {
	file  *spool.File
	w     *packindex.Writer
	packs map[uint32]struct{}
}

func beginIndex() (*newIndex, error) {
	f, err := spool.Create()
	if err != nil {
		return nil, err
	}
	return &newIndex{f, packindex.NewWriter(io.NewOffsetWriter(f, 0)), map[uint32]struct{}{}}, nil
}

func (x *newIndex) add(e packindex.Entry) error {
	x.packs[e.Pack.Number] = struct{}{}
	return x.w.Add(e)
}

// store stores the index and removes the temporary file.
func (x *newIndex) store(ctx context.Context, p *packer, number uint32) (run catalog.Run, err error) {
	defer func() { err = errors.Join(err, x.file.Close()) }()
	run.Chunks, run.Packs = x.w.Chunks(), int64(len(x.packs))
	if run.Bytes, run.Head, err = x.w.Close(); err != nil {
		return run, err
	}
	if run.Head <= catalog.InlineMost {
		run.Inline = make([]byte, run.Head)
		if _, err := x.file.ReadAt(run.Inline, run.Bytes-run.Head); err != nil {
			return run, err
		}
	}
	p.mu.Lock()
	p.indexes = max(p.indexes, number+1)
	p.mu.Unlock()
	return run, p.repo.create(ctx, catalog.IndexKey(p.session, number), &fileBody{x.file, run.Bytes})
}

// fileBody is a file as a body.
type fileBody struct {
	io.ReaderAt
	size int64
}

// Size is the length of the body.
func (f *fileBody) Size() int64 { return f.size }

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

// settle gives everything back after the snapshot is there for good: what cannot
// be given back is no reason to call a backup failed.
func (b *Session) settle() {
	b.mu.Lock()
	b.ended = true
	b.mu.Unlock()
	_ = b.repo.remove(b.release())
}

// Abort ends the session and removes what it stored.
func (b *Session) Abort() error {
	b.mu.Lock()
	ended, open := b.ended, b.open
	b.ended, b.open = true, nil
	b.mu.Unlock()
	if ended {
		return nil
	}
	for f := range open {
		_ = f.Close() // its content goes anyway
	}
	keys := b.release()
	err := b.repo.end(b.number)
	if errors.Is(err, errGone) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("end session %s, which others can do after %s: %w", b.number, b.repo.opt.Lease, err)
	}
	_ = b.repo.remove(append(keys, b.stored()...)) // a collection removes what is left
	return nil
}

// stored are the keys of objects that may be there.
func (b *Session) stored() []string {
	keys := []string{catalog.SnapshotObject(b.number), catalog.LogObject(b.number)}
	if b.refill != nil {
		return keys
	}
	return append(keys, b.chunks.pack.keys()...)
}

// release ends what runs, and returns the keys of objects that nobody needs any
// more.
func (b *Session) release() []string {
	b.cancel(errEnded)
	keys := b.lease.end()
	if b.refill == nil {
		_ = b.chunks.close() // temporary files, which end with the process at the latest
	}
	for _, f := range b.files {
		_ = f.Close()
	}
	if b.prev != nil {
		_ = b.prev.Close()
	}
	return keys
}

// endTime bounds what is done after a session failed.
const endTime = time.Minute

// end ends sessions without success. errGone is one that has ended: by somebody
// else, who has said what is to be removed, or with success, of which nobody knew.
func (r *Repository) end(numbers ...catalog.Number) error {
	ctx, cancel := context.WithTimeout(context.Background(), endTime)
	defer cancel()
	_, err := r.update(ctx, func(tx catalog.Tx) error {
		for _, n := range numbers {
			if _, ok := tx.Get(catalog.SessionKey(n)); !ok {
				return fmt.Errorf("%s: %w", n, errGone)
			}
			if err := catalog.End(tx, n); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

var errGone = errors.New("it has ended already")

// remove removes objects that nobody needs, as far as that is allowed.
func (r *Repository) remove(keys []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), endTime)
	defer cancel()
	for some := range slices.Chunk(keys, objstore.MaxDelete) {
		if err := r.store.Delete(ctx, some); err != nil {
			return err
		}
	}
	return nil
}
