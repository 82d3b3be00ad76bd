package job

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// DefaultReaders is how many chunks of a repository are read at a time.
const DefaultReaders = 4

// Backup says what is written to tape, and how.
type Backup struct {
	Store string // name of the datastore, as it is written to tape
	Repo  repo.Repository
	Selection

	ForceMediaSet bool // begin a media set, whatever the pool says
	EjectMedia    bool // at the end
	ExportSet     bool // at the end: all media of the set go to export slots
	Readers       int  // chunks read at a time; 0: DefaultReaders

	// Progress is called when a chunk was handed to the drive; may be nil.
	Progress func(Stats)
}

// Stats is how much a job has done.
type Stats struct {
	Snapshots, Chunks, Bytes int64
	Known                    int64 // chunks that the media set had
	Skipped                  int64 // snapshots that the media set had
	Failed                   int64 // snapshots that could not be read
}

// set is the media set that a backup writes: which media there are, what they
// hold, and the one that comes next.
type set interface {
	// Known reports whether the set has a chunk of a store.
	Known(store string, d digest.Digest) (bool, error)
	// Holds reports whether the set has a snapshot of a store.
	Holds(store string, s names.Snapshot) (bool, error)
	// Next opens the medium to write on, ready for its first archive. It may wait
	// for people. fresh says that nothing of a backup is on it yet.
	Next(ctx context.Context) (m *medium, fresh bool, err error)
	// Full notes that a medium takes no more.
	Full(m *medium) error
	// CatalogOf writes the catalog of a medium to its end.
	CatalogOf(m *medium) error
}

// writing is a backup that runs.
type writing struct {
	Backup
	set         set
	logf, warnf func(format string, args ...any)
	feed        *feed
	stats       Stats

	mu      sync.Mutex // of set and pending
	pending map[digest.Digest]struct{}

	m     *medium
	fresh bool
	wrote bool // something that the catalog on tape lacks
	cur   *chunkArchive
	again []wanted // chunks that did not get onto a medium
}

// run writes what the selection says, and the catalog behind it. Snapshots that
// cannot be read are counted and left out.
func (b *writing) run(ctx context.Context) (err error) {
	spool, err := newSpool(spoolSize)
	if err != nil {
		return err
	}
	defer spool.close()
	readers := b.Readers
	if readers <= 0 {
		readers = DefaultReaders
	}
	b.feed, b.pending = &feed{readers: readers, spool: spool}, map[digest.Digest]struct{}{}
	defer func() {
		if b.m != nil { // what is not committed is written again next time
			err = errors.Join(err, b.m.drive.Close())
			b.m = nil
		}
	}()
	groups, err := b.groups(ctx, b.Repo)
	if err != nil {
		return err
	}
	b.logf("number of groups: %d", len(groups))
	for i, g := range groups {
		if err := b.group(ctx, g); err != nil {
			return err
		}
		b.logf("percentage done: %.2f%% (%d/%d groups)", 100*float64(i+1)/float64(len(groups)), i+1, len(groups))
	}
	if !b.wrote {
		b.logf("nothing new to write")
		return nil
	}
	return b.end(ctx)
}

func (b *writing) group(ctx context.Context, g group) error {
	list, err := b.snapshots(ctx, b.Repo, g)
	if errors.Is(err, repo.ErrNotFound) {
		return nil // removed since it was listed
	}
	if err != nil {
		return err
	}
	for _, s := range list {
		b.mu.Lock()
		has, err := b.set.Holds(b.Store, s)
		b.mu.Unlock()
		if err != nil {
			return err
		}
		if has {
			b.stats.Skipped++
			continue
		}
		err = b.snapshot(ctx, s)
		if damaged, ok := errors.AsType[*damagedError](err); ok && ctx.Err() == nil {
			b.stats.Failed++
			b.warnf("snapshot %s is left out: %v", s.Path(), damaged.err)
			continue
		}
		if err != nil {
			return fmt.Errorf("snapshot %s: %w", s.Path(), err)
		}
	}
	return nil
}

// snapshot writes one snapshot: first the chunks that the set lacks.
func (b *writing) snapshot(ctx context.Context, s names.Snapshot) (err error) {
	snap, err := b.Repo.Open(ctx, s)
	if errors.Is(err, repo.ErrNotFound) {
		b.logf("snapshot %s was removed meanwhile", s.Path())
		return nil
	}
	if err != nil {
		return &damagedError{err}
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	b.logf("backup snapshot %s", s.Path())
	b.feed.read, b.feed.ahead = snap.ReadChunk, nil
	if p, ok := snap.(interface{ Prefetch(ds []digest.Digest) }); ok {
		b.feed.ahead = p.Prefetch
	}
	err = b.chunks(ctx, func(yield func(wanted) error) error { return b.lacking(snap, yield) })
	for err == nil && len(b.again) > 0 {
		again := b.again
		b.again = nil
		err = b.chunks(ctx, func(yield func(wanted) error) error {
			for _, w := range again {
				if err := yield(w); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		b.again = nil
		return err
	}
	for range 2 {
		if err := b.ready(ctx); err != nil {
			return err
		}
		err = b.m.snapshot(b.Store, snap)
		b.wrote = true
		if err == nil {
			b.stats.Snapshots++
			b.logf("wrote snapshot %s", s.Path())
			return b.settle(ctx)
		}
		if !errors.Is(err, errFull) {
			return err
		}
		b.logf("snapshot archive does not fit, writing it to the next medium")
		if err := b.turn(ctx); err != nil {
			return err
		}
	}
	return fmt.Errorf("its archive does not fit on a whole medium: %w", err)
}

// lacking yields the chunks of a snapshot that the set has not, and that are not
// on their way.
func (b *writing) lacking(snap repo.Snapshot, yield func(wanted) error) error {
	for _, name := range fileNames(snap) {
		if name.Kind() == names.Blob {
			continue
		}
		f, err := openFile(snap, name)
		if err != nil {
			return &damagedError{err}
		}
		var stop error
		err = f.each(func(w wanted) error {
			var known bool
			if known, stop = b.known(w.digest); stop == nil && !known {
				stop = yield(w)
			}
			return stop
		})
		switch err := errors.Join(err, f.close()); {
		case stop != nil:
			return stop
		case err != nil:
			return &damagedError{err}
		}
	}
	return nil
}

func (b *writing) known(d digest.Digest) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.pending[d]; ok {
		return true, nil
	}
	known, err := b.set.Known(b.Store, d)
	switch {
	case err != nil:
	case known:
		b.stats.Known++
	default:
		b.pending[d] = struct{}{}
	}
	return known, err
}

// chunks writes chunks in their order and ends the archive.
func (b *writing) chunks(ctx context.Context, each func(yield func(wanted) error) error) (err error) {
	defer func() {
		if b.cur != nil { // what it has is worth to be kept, unless the drive failed
			err = errors.Join(err, b.finishChunks(ctx))
		}
		b.mu.Lock()
		clear(b.pending)
		b.mu.Unlock()
	}()
	return b.feed.run(ctx, each, func(w wanted, raw []byte, rerr error) error {
		if rerr == nil {
			_, rerr = blob.Check(raw)
		}
		if rerr != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return &damagedError{fmt.Errorf("chunk %s: %w", w.digest, rerr)}
		}
		return b.chunk(ctx, w, raw)
	})
}

func (b *writing) chunk(ctx context.Context, w wanted, raw []byte) (err error) {
	if b.cur == nil {
		if err := b.ready(ctx); err != nil {
			return err
		}
		b.wrote = true
		if b.cur, err = b.m.beginChunks(b.Store); err != nil {
			return err
		}
	}
	full, err := b.cur.add(w, raw)
	if err != nil {
		return errors.Join(err, b.dropChunks())
	}
	b.stats.Chunks++
	b.stats.Bytes += int64(tapefile.ChunkHeaderSize + len(raw))
	if b.Progress != nil {
		b.Progress(b.stats)
	}
	if !full {
		return nil
	}
	return b.finishChunks(ctx)
}

// dropChunks ends an archive after the drive failed.
func (b *writing) dropChunks() error {
	err := b.cur.drop()
	b.cur = nil
	return err
}

// finishChunks ends the archive, and the medium if it is full. What did not get
// onto it comes again.
func (b *writing) finishChunks(ctx context.Context) error {
	cur := b.cur
	b.cur = nil
	b.mu.Lock()
	lost, err := cur.finish()
	for _, w := range cur.chunks {
		delete(b.pending, w.digest)
	}
	for _, w := range lost {
		b.pending[w.digest] = struct{}{}
	}
	b.mu.Unlock()
	if err != nil {
		return err
	}
	b.again = append(b.again, lost...)
	b.stats.Chunks -= int64(len(lost))
	b.stats.Bytes -= cur.behind(len(cur.chunks) - len(lost))
	b.logf("wrote %d chunks in file %d of medium %s (%d bytes)", len(cur.chunks)-len(lost), b.m.next-1, b.m.label.Text, cur.w.Written())
	return b.settle(ctx)
}

// settle commits where that is due, and turns to the next medium where this one
// is full.
func (b *writing) settle(ctx context.Context) error {
	if b.m.full {
		return b.turn(ctx)
	}
	return b.m.settle(ctx)
}

// ready makes sure that there is a medium with room.
func (b *writing) ready(ctx context.Context) error {
	if b.m != nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var err error
	b.m, b.fresh, err = b.set.Next(ctx)
	return err
}

// errSmall is wrapped for a medium that is no use: the next one would be none
// either.
var errSmall = errors.New("it is too small: not one archive fits on it")

// turn ends the present medium, which is full.
func (b *writing) turn(ctx context.Context) error {
	m := b.m
	b.m = nil
	b.logf("medium %s is full", m.label.Text)
	b.mu.Lock()
	defer b.mu.Unlock()
	// First that it is full: a medium whose last blocks do not get onto it would
	// be tried again and again otherwise.
	err := b.set.Full(m)
	if cerr := m.commit(ctx); err == nil {
		err = cerr
	}
	if cerr := m.drive.Close(); err == nil {
		err = cerr
	}
	if err == nil && b.fresh && m.kept == 0 {
		err = fmt.Errorf("medium %s: %w", m.label.Text, errSmall)
	}
	return err
}

// end commits, and writes the catalog behind all archives.
func (b *writing) end(ctx context.Context) error {
	for range 2 {
		if err := b.ready(ctx); err != nil {
			return err
		}
		if err := b.m.commit(ctx); err != nil {
			return err
		}
		err := b.set.CatalogOf(b.m)
		if err == nil {
			full := b.m.full
			if err := b.m.commit(ctx); err != nil || !full {
				return err
			}
			return b.set.Full(b.m)
		}
		if !errors.Is(err, errFull) {
			return err
		}
		b.logf("catalog does not fit, writing it to the next medium")
		if err := b.turn(ctx); err != nil {
			return err
		}
	}
	return errors.New("the catalog does not fit on a whole medium")
}
