package job

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Target is a repository that backups come back into. It is one on this machine,
// a repo.Refiller.
type Target struct {
	Repo  repo.Repository
	Owner string // of new groups, and the only one whose groups are touched; "": see repo.Begin
	// May says whether a snapshot may be brought here; nil: any.
	May func(names.Snapshot) error
}

// bringing is backups on their way from tape into repositories.
type bringing struct {
	// target finds where the backups of a store go; nil: nowhere.
	target func(store string) *Target
	logf   func(format string, args ...any)
	warnf  func(format string, args ...any)
	moved  func() // called when something was brought; may be nil

	refills map[*Target]repo.Refill
	stats   RestoreStats
}

// RestoreStats is how much came back.
type RestoreStats struct {
	Snapshots, Chunks, Bytes int64
	Skipped                  int64 // snapshots that were there
	Failed                   int64 // snapshots that could not be brought back
	Damaged                  int64 // files and chunks on the medium that cannot be read
}

// refill opens the way into a repository once.
func (b *bringing) refill(ctx context.Context, t *Target) (repo.Refill, error) {
	if r, ok := b.refills[t]; ok {
		return r, nil
	}
	into, ok := t.Repo.(repo.Refiller)
	if !ok {
		return nil, fmt.Errorf("%s: backups come back from tape only into a repository on this machine", t.Repo.Location())
	}
	r, err := into.Refill(ctx)
	if err != nil {
		return nil, err
	}
	if b.refills == nil {
		b.refills = map[*Target]repo.Refill{}
	}
	b.refills[t] = r
	return r, nil
}

func (b *bringing) close() error {
	var errs []error
	for _, r := range b.refills {
		errs = append(errs, r.Close())
	}
	b.refills = nil
	return errors.Join(errs...)
}

// chunks stores those chunks of an archive that wanted says, nil for all, and
// returns the sound ones of the archive.
func (b *bringing) chunks(ctx context.Context, t *Target, r io.Reader, want func(digest.Digest) (bool, error)) ([]digest.Digest, error) {
	keep := nobody
	if t != nil {
		refill, err := b.refill(ctx, t)
		if err != nil {
			return nil, err
		}
		keep = func(ctx context.Context, d digest.Digest, raw []byte) error {
			if want != nil {
				if ok, err := want(d); err != nil || !ok {
					return err
				}
			}
			_, err := refill.Put(ctx, d, raw)
			return err
		}
	}
	var bytes int64
	list, err := sift(ctx, countReader{r, &bytes}, keep, func(format string, args ...any) {
		b.stats.Damaged++
		b.warnf(format, args...)
	})
	b.stats.Chunks += int64(len(list))
	b.stats.Bytes += bytes
	if b.moved != nil {
		b.moved()
	}
	return list, err
}

type countReader struct {
	r io.Reader
	n *int64
}

func (c countReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	*c.n += int64(n)
	return n, err
}

// snapshot brings the snapshot of an archive back under a name, or only checks
// the archive, if it is there already or goes nowhere. An error is of the
// archive, or ends the job; what else hinders the snapshot is reported.
func (b *bringing) snapshot(ctx context.Context, t *Target, was, to names.Snapshot, r io.Reader) error {
	f, err := openFiles(r, was)
	if err != nil {
		return err
	}
	if t == nil {
		return f.check()
	}
	err = b.into(ctx, t, f, to)
	switch {
	case err == nil:
		b.stats.Snapshots++
		b.logf("restored snapshot %s", to.Path())
		if b.moved != nil {
			b.moved()
		}
		return nil
	case errors.Is(err, errThere):
		b.stats.Skipped++
		b.logf("skip snapshot %s: it exists", to.Path())
		return f.check()
	case isTarget(err) && ctx.Err() == nil:
		b.stats.Failed++
		b.warnf("snapshot %s is not restored: %v", to.Path(), err)
		_, err := io.Copy(io.Discard, r) // is the archive good, at least?
		return err
	case isDamage(err):
		b.stats.Failed++
	}
	return err
}

// errThere is returned for a snapshot that need not be brought back.
var errThere = errors.New("the snapshot exists")

// isTarget reports what hinders one snapshot and not the others.
func isTarget(err error) bool {
	for _, kind := range []error{repo.ErrChunkMissing, repo.ErrOwner, repo.ErrLocked, errRefused} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// errRefused is wrapped when a caller may not bring a snapshot back.
var errRefused = errors.New("it may not be restored there")

func (b *bringing) into(ctx context.Context, t *Target, f *files, to names.Snapshot) (err error) {
	if t.May != nil {
		if err := t.May(to); err != nil {
			return fmt.Errorf("%w: %w", errRefused, err)
		}
	}
	refill, err := b.refill(ctx, t)
	if err != nil {
		return err
	}
	if err := prepare(ctx, t.Repo, to); err != nil {
		return err
	}
	ses, err := refill.Begin(ctx, repo.Begin{Snapshot: to, Owner: t.Owner})
	if errors.Is(err, repo.ErrExists) {
		return errThere
	}
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ses.Abort())
		}
	}()
	return f.into(ctx, ses)
}

// prepare makes the namespaces of a snapshot, and removes what an interrupted
// job has left of it.
func prepare(ctx context.Context, r repo.Repository, to names.Snapshot) error {
	var missing []names.Namespace
	for ns := to.NS; !ns.IsRoot(); ns = ns.Parent() {
		_, err := r.Namespaces(ctx, ns)
		if err == nil {
			break
		}
		if !errors.Is(err, repo.ErrNotFound) {
			return err
		}
		missing = append(missing, ns)
	}
	for i := len(missing) - 1; i >= 0; i-- {
		if err := r.CreateNamespace(ctx, missing[i]); err != nil && !errors.Is(err, repo.ErrExists) {
			return err
		}
	}
	list, err := r.Snapshots(ctx, to.NS, &to.Group)
	if errors.Is(err, repo.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, s := range list {
		switch {
		case s.Snapshot != to:
		case s.Finished:
			return errThere
		default:
			return r.Forget(ctx, to)
		}
	}
	return nil
}

// book notes what a medium holds while it is read.
type book interface {
	AddArchive(file uint64, id uuid.UUID, store string, chunks []digest.Digest) error
	AddSnapshot(file uint64, id uuid.UUID, store string, s names.Snapshot) error
}

// whole brings back everything that it sees, and notes what is on the medium.
type whole struct {
	*bringing
	book book // nil: nobody wants to know
}

var _ visitor = whole{}

func (w whole) chunks(ctx context.Context, at place, a tapefile.ChunkArchive, r io.Reader) error {
	t := w.target(a.Store)
	if t == nil && w.book == nil {
		return errSkip
	}
	list, err := w.bringing.chunks(ctx, t, r, nil)
	if w.book != nil && len(list) > 0 && (err == nil || isDamage(err)) {
		if err := w.book.AddArchive(at.file, at.id, a.Store, list); err != nil {
			return err
		}
	}
	if err != nil {
		return fmt.Errorf("chunk archive: %w", err)
	}
	w.logf("file %d: chunk archive of store %s with %d chunks", at.file, a.Store, len(list))
	return nil
}

func (w whole) snapshot(ctx context.Context, at place, a tapefile.SnapshotArchive, r io.Reader) error {
	t := w.target(a.Store)
	if t == nil && w.book == nil {
		return errSkip
	}
	err := w.bringing.snapshot(ctx, t, a.Snapshot, a.Snapshot, r)
	if err != nil {
		return fmt.Errorf("snapshot %s:%s: %w", a.Store, a.Snapshot.Path(), err)
	}
	if w.book == nil {
		return nil
	}
	return w.book.AddSnapshot(at.file, at.id, a.Store, a.Snapshot)
}

func (w whole) catalog(context.Context, place, tapefile.CatalogArchive, io.Reader) error {
	return errSkip
}
