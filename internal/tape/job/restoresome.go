package job

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/cancel"
	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
	"github.com/holdfast-backup/holdfast/internal/repo/indexset"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/media"
)

// task is one snapshot that is brought back.
type task struct {
	Choice
	to     names.Snapshot
	target *Target
	at     media.At
	spool  string // file with its archive
}

// RestoreSome brings some snapshots of a media set back. Each medium is read only
// where something is needed of it: first the snapshot archives, which lie in a
// temporary directory meanwhile, then the chunks that the repositories lack.
func (w *World) RestoreSome(ctx context.Context, r Restore, some Some) (stats RestoreStats, err error) {
	unlock, list, err := w.lockSet(ctx, r.MediaSet)
	if err != nil {
		return stats, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	contents, err := w.State.Contents(list)
	if err != nil {
		return stats, readAgain(err)
	}
	defer func() { err = errors.Join(err, contents.Close()) }()
	dir, err := os.MkdirTemp("", "holdfast-tape-")
	if err != nil {
		return stats, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := w.bringing(r)
	defer func() { err = errors.Join(err, b.close()) }()
	p := &picking{World: w, bringing: b, list: list, contents: contents, dir: dir}
	err = p.run(ctx, r, some)
	return b.stats, err
}

// picking is such a restore.
type picking struct {
	*World
	*bringing
	list     []media.Medium
	contents *media.Contents
	dir      string
	tasks    []*task
}

func (p *picking) run(ctx context.Context, r Restore, some Some) error {
	if err := p.choose(ctx, r, some); err != nil {
		return err
	}
	if err := p.archives(ctx); err != nil {
		return err
	}
	if err := p.missing(ctx); err != nil {
		return err
	}
	for _, t := range p.tasks {
		if err := p.put(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// archives copies the snapshot archives into the temporary directory.
func (p *picking) archives(ctx context.Context) error {
	files := wantedFiles{}
	byPlace := map[media.At][]*task{}
	for _, t := range p.tasks {
		files.add(t.at)
		byPlace[t.at] = append(byPlace[t.at], t)
	}
	err := p.onMedia(ctx, files, func(d tape.Drive, medium uuid.UUID, files []uint64) error {
		for _, f := range files {
			if err := p.single(ctx, d, f, &spooling{p, byPlace[media.At{Medium: medium, File: f}]}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	p.tasks = slices.DeleteFunc(p.tasks, func(t *task) bool {
		if t.spool != "" {
			return false
		}
		p.stats.Failed++
		p.bringing.warnf("snapshot %s is not restored: its archive cannot be read", t.Choice)
		return true
	})
	return nil
}

// spooling copies a snapshot archive.
type spooling struct {
	p     *picking
	tasks []*task
}

func (s *spooling) chunks(context.Context, place, tapefile.ChunkArchive, io.Reader) error {
	return fmt.Errorf("%w: a chunk archive where a snapshot should be", tapefile.ErrFormat)
}

func (s *spooling) catalog(context.Context, place, tapefile.CatalogArchive, io.Reader) error {
	return fmt.Errorf("%w: a catalog where a snapshot should be", tapefile.ErrFormat)
}

func (s *spooling) snapshot(ctx context.Context, _ place, a tapefile.SnapshotArchive, r io.Reader) (err error) {
	for _, t := range s.tasks {
		if a.Store != t.Store || a.Snapshot != t.Snapshot {
			return fmt.Errorf("%w: snapshot %s:%s where %s should be", tapefile.ErrFormat, a.Store, a.Snapshot.Path(), t.Choice)
		}
	}
	f, err := os.CreateTemp(s.p.dir, "snapshot-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.Copy(f, cancel.Reader(ctx, r)); err != nil {
		return err
	}
	for _, t := range s.tasks {
		t.spool = f.Name()
	}
	return nil
}

// missing brings the chunks that the repositories lack.
func (p *picking) missing(ctx context.Context) (err error) {
	named := map[string]*indexset.Set{} // by store, which goes to one repository
	defer func() {
		for _, s := range named {
			err = errors.Join(err, s.Close())
		}
	}()
	files := wantedFiles{}
	for _, t := range p.tasks {
		set := named[t.Store]
		if set == nil {
			set = new(indexset.Set)
			named[t.Store] = set
		}
		err := p.lacking(ctx, t, set, files)
		if isDamage(err) {
			p.bringing.warnf("snapshot %s: %v", t.Choice, err) // it will not appear
			continue
		}
		if err != nil {
			return err
		}
	}
	return p.onMedia(ctx, files, func(d tape.Drive, _ uuid.UUID, files []uint64) error {
		for _, f := range files {
			if err := p.single(ctx, d, f, fetching{bringing: p.bringing, named: named}); err != nil {
				return err
			}
		}
		return nil
	})
}

// lacking notes in which files the chunks are that a snapshot needs and its
// repository lacks. What is not on the media comes out when the snapshot is to
// appear.
func (p *picking) lacking(ctx context.Context, t *task, set *indexset.Set, files wantedFiles) error {
	refill, err := p.refill(ctx, t.target)
	if err != nil {
		return err
	}
	return indexesOf(t.spool, set, func(d digest.Digest) error {
		if has, err := refill.Has(ctx, d); err != nil || has {
			return err
		}
		at, ok, err := p.contents.Chunk(t.Store, d)
		if err != nil || !ok {
			return err
		}
		files.add(at)
		return nil
	})
}

// fetching takes the chunks that are wanted out of archives.
type fetching struct {
	onlyChunks
	bringing *bringing
	named    map[string]*indexset.Set
}

func (f fetching) chunks(ctx context.Context, at place, a tapefile.ChunkArchive, r io.Reader) error {
	set := f.named[a.Store]
	if set == nil {
		return fmt.Errorf("%w: chunks of store %s, where none are", tapefile.ErrFormat, a.Store)
	}
	if _, err := f.bringing.chunks(ctx, f.bringing.target(a.Store), r, set.Has); err != nil {
		return fmt.Errorf("chunk archive: %w", err)
	}
	f.bringing.logf("file %d: chunk archive of store %s", at.file, a.Store)
	return nil
}

// put brings a snapshot whose chunks are there.
func (p *picking) put(ctx context.Context, t *task) (err error) {
	f, err := os.Open(t.spool)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	err = p.bringing.snapshot(ctx, t.target, t.Snapshot, t.to, f)
	if isDamage(err) {
		p.bringing.warnf("snapshot %s is not restored: %v", t.Choice, err)
		return nil
	}
	return err
}
