package job

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/indexset"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/media"
)

// Choice is one snapshot of a store.
type Choice struct {
	Store    string
	Snapshot names.Snapshot
}

// ParseChoice reads store:[ns/a/ns/b/]type/id/time.
func ParseChoice(text string) (c Choice, err error) {
	store, path, ok := strings.Cut(text, ":")
	if !ok || names.CheckStore(store) != nil {
		return c, fmt.Errorf("%.100q is no snapshot on tape: want store:[ns/NAME/...]type/id/time", text)
	}
	c.Store = store
	c.Snapshot, err = names.ParseSnapshot(path)
	return c, err
}

func (c Choice) String() string { return c.Store + ":" + c.Snapshot.Path() }

// Some says which snapshots of a media set are brought back: those that are named,
// and those of namespaces.
type Some struct {
	Snapshots  []Choice
	Namespaces []NamespaceMap
}

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

// choose finds the snapshots, and leaves out those that are there.
func (p *picking) choose(ctx context.Context, r Restore, some Some) error {
	var list []*task
	for _, c := range some.Snapshots {
		at, ok, err := p.contents.Snapshot(c.Store, c.Snapshot)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("%s is not in media set %s: %w", c, r.MediaSet, repo.ErrNotFound)
		}
		to := c.Snapshot
		for _, m := range some.Namespaces {
			ns, fits, err := m.Map(c.Store, c.Snapshot.NS)
			if err != nil {
				return err
			}
			if fits {
				to.NS = ns
				break
			}
		}
		list = append(list, &task{Choice: c, to: to, at: at})
	}
	if len(some.Snapshots) == 0 {
		var err error
		if list, err = p.inNamespaces(some.Namespaces); err != nil {
			return err
		}
	}
	for _, t := range list {
		if t.target = r.Target(t.Store); t.target == nil {
			return fmt.Errorf("%s: the store map names no target for %s", t.Choice, t.Store)
		}
		err := prepareOnly(ctx, t.target.Repo, t.to)
		if errors.Is(err, errThere) {
			p.stats.Skipped++
			p.bringing.logf("skip snapshot %s: it exists", t.to.Path())
			continue
		}
		if err != nil {
			return err
		}
		p.tasks = append(p.tasks, t)
	}
	return nil
}

// prepareOnly reports errThere for a snapshot that is there. It changes nothing.
func prepareOnly(ctx context.Context, r repo.Repository, to names.Snapshot) error {
	list, err := r.Snapshots(ctx, to.NS, &to.Group)
	if err != nil && !errors.Is(err, repo.ErrNotFound) {
		return err
	}
	if slices.ContainsFunc(list, func(s repo.SnapshotInfo) bool { return s.Snapshot == to && s.Finished }) {
		return errThere
	}
	return nil
}

func (p *picking) inNamespaces(maps []NamespaceMap) (list []*task, err error) {
	for name, at := range p.contents.Snapshots() {
		c, err := ParseChoice(name)
		if err != nil {
			return nil, err
		}
		for _, m := range maps {
			ns, fits, err := m.Map(c.Store, c.Snapshot.NS)
			if err != nil {
				return nil, err
			}
			if fits {
				to := c.Snapshot
				to.NS = ns
				list = append(list, &task{Choice: c, to: to, at: at})
				break
			}
		}
	}
	return list, nil
}

// onMedia calls work with every medium of which files are wanted, in its drive, and
// those files in their order.
func (p *picking) onMedia(ctx context.Context, files map[uuid.UUID][]uint64, work func(d tape.Drive, medium uuid.UUID, files []uint64) error) error {
	for _, m := range p.list {
		want := files[m.UUID()]
		if len(want) == 0 {
			continue
		}
		slices.Sort(want)
		want = slices.Compact(want)
		d, err := p.World.open(ctx, m)
		if err != nil {
			return fmt.Errorf("medium %s: %w", m.Label.Text, err)
		}
		p.bringing.logf("reading from medium %s, number of files: %d", m.Label.Text, len(want))
		if err := errors.Join(work(d, m.UUID(), want), d.Close()); err != nil {
			return fmt.Errorf("medium %s: %w", m.Label.Text, err)
		}
	}
	return nil
}

// single shows one file to v. What is damaged is reported and counted.
func (p *picking) single(ctx context.Context, d tape.Drive, file uint64, v visitor) error {
	if err := d.Locate(ctx, file); err != nil {
		return fmt.Errorf("file %d: %w", file, err)
	}
	there, _, err := visit(ctx, d, file, v)
	switch {
	case !there:
		return fmt.Errorf("file %d: %w; read the catalog from the medium with tape catalog --force", file, tape.ErrEndOfData)
	case err == nil || errors.Is(err, errSkip):
	case isDamage(err):
		p.stats.Damaged++
		p.bringing.warnf("file %d: %v", file, err)
	default:
		return fmt.Errorf("file %d: %w", file, err)
	}
	return nil
}

// archives copies the snapshot archives into the temporary directory.
func (p *picking) archives(ctx context.Context) error {
	files := map[uuid.UUID][]uint64{}
	byPlace := map[media.At][]*task{}
	for _, t := range p.tasks {
		files[t.at.Medium] = append(files[t.at.Medium], t.at.File)
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
	if _, err := io.Copy(f, untilDone{ctx, r}); err != nil {
		return err
	}
	for _, t := range s.tasks {
		t.spool = f.Name()
	}
	return nil
}

// untilDone is a reader that ends with a context.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if err := context.Cause(u.ctx); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

// missing brings the chunks that the repositories lack.
func (p *picking) missing(ctx context.Context) (err error) {
	named := map[string]*indexset.Set{} // by store, which goes to one repository
	defer func() {
		for _, s := range named {
			err = errors.Join(err, s.Close())
		}
	}()
	files := map[uuid.UUID][]uint64{}
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
			if err := p.single(ctx, d, f, fetching{p.bringing, named}); err != nil {
				return err
			}
		}
		return nil
	})
}

// lacking notes in which files the chunks are that a snapshot needs and its
// repository lacks. What is not on the media comes out when the snapshot is to
// appear.
func (p *picking) lacking(ctx context.Context, t *task, set *indexset.Set, files map[uuid.UUID][]uint64) error {
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
		if list := files[at.Medium]; len(list) == 0 || list[len(list)-1] != at.File {
			files[at.Medium] = append(list, at.File)
		}
		return nil
	})
}

// fetching takes the chunks that are wanted out of archives.
type fetching struct {
	*bringing
	named map[string]*indexset.Set
}

func (f fetching) chunks(ctx context.Context, at place, a tapefile.ChunkArchive, r io.Reader) error {
	set := f.named[a.Store]
	if set == nil {
		return fmt.Errorf("%w: chunks of store %s, where none are", tapefile.ErrFormat, a.Store)
	}
	if _, err := f.bringing.chunks(ctx, f.target(a.Store), r, set.Has); err != nil {
		return fmt.Errorf("chunk archive: %w", err)
	}
	f.logf("file %d: chunk archive of store %s", at.file, a.Store)
	return nil
}

func (f fetching) snapshot(context.Context, place, tapefile.SnapshotArchive, io.Reader) error {
	return fmt.Errorf("%w: a snapshot where chunks should be", tapefile.ErrFormat)
}

func (f fetching) catalog(context.Context, place, tapefile.CatalogArchive, io.Reader) error {
	return fmt.Errorf("%w: a catalog where chunks should be", tapefile.ErrFormat)
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
