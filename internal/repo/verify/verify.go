// Package verify reads snapshots back and compares everything with its checksums,
// whatever holds the repository: what is looked at, chunk by chunk and once, what
// counts as damage, and which verdict goes into a manifest.
//
// # Verdicts
//
// Corrupt and missing are damage: the verdict is failed, and the [Store] hears of each
// such chunk, so that the next backup stores it again. What could not be read is
// reported and changes nothing: a failing network is no damage. A chunk that an
// index is wrong about is damage of that index only; the chunk stays, so that
// whoever writes an index cannot take the chunks of others away.
//
// A chunk is read once in a verification for each thing that indexes say of it:
// its length, whether it is encrypted, and where it lies, if the snapshot is a
// [Placer].
//
// # Memory
//
// Workers × (one encoded chunk + [lanes] plain ones), 32 MiB of remembered digests,
// and for a Placer 4 MiB of places.
package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/upid"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// Store is what is verified.
type Store interface {
	Lister
	// Open opens a finished snapshot, with an error of repo.ErrNotFound if it is
	// gone, and vfs.ErrLocked if it cannot be had now.
	Open(ctx context.Context, n names.Snapshot) (Snapshot, error)
	// SetAside is told that a chunk is damaged, and sees to it that the next
	// backup stores it again. It asks check, which reads the chunk again, when
	// nobody else can change it, for there may be a sound one by now; it reports
	// that. It does nothing and returns nil where the store cannot be changed.
	SetAside(ctx context.Context, snap Snapshot, d digest.Digest, check func() error) (sound bool, err error)
	// MarkLost is told that a chunk is missing, in the same way.
	MarkLost(ctx context.Context, snap Snapshot, d digest.Digest) error
	// SaveVerdict keeps a verdict with the snapshot, and does nothing where the
	// store cannot be changed.
	SaveVerdict(ctx context.Context, snap Snapshot, v manifest.VerifyState) error
	// Now is the clock that verdicts are stamped with.
	Now() time.Time
	// TaskID makes up a task for a verdict.
	TaskID(start time.Time, kind, what string) string
}

// Snapshot is a snapshot being verified.
type Snapshot interface {
	repo.Snapshot
	// Prefetch says that these chunks will be read soon. It does not wait.
	Prefetch(ds []digest.Digest)
}

// Run verifies snapshots. Its error is that the verification as a whole could
// not go on.
func Run(ctx context.Context, s Store, opt repo.VerifyOptions) (repo.VerifyReport, error) {
	list, err := choose(s, opt)
	if err != nil {
		return repo.VerifyReport{}, err
	}
	c := newChecker(s, opt, len(list))
	var rep repo.VerifyReport
	for i, n := range list {
		if err := context.Cause(ctx); err != nil {
			return rep, err
		}
		c.begin(n, i)
		v, err := c.snapshot(ctx, n, opt)
		rep.Chunks, rep.Bytes = c.chunks.Load(), c.bytes.Load()
		if err != nil {
			return rep, err
		}
		rep.Snapshots = append(rep.Snapshots, v)
		if opt.Verdict != nil {
			opt.Verdict(v)
		}
	}
	return rep, nil
}

// snapshot returns the verdict on one snapshot.
func (c *checker) snapshot(ctx context.Context, n names.Snapshot, opt repo.VerifyOptions) (repo.VerifiedSnapshot, error) {
	v := repo.VerifiedSnapshot{Snapshot: n}
	snap, err := c.store.Open(ctx, n)
	switch {
	case errors.Is(err, vfs.ErrLocked):
		v.Skipped = "in use"
		return v, nil
	case errors.Is(err, repo.ErrNotFound):
		v.Skipped = "vanished"
		return v, nil
	case err != nil:
		v.Errors = append(v.Errors, err)
		return v, nil
	}
	m, start := snap.Manifest(), c.store.Now()
	if opt.IgnoreVerified && Lately(m.VerifyState(), start, opt.OutdatedAfter) {
		v.Skipped = "verified already"
		return v, snap.Close()
	}
	if c.fits(m) {
		if err := m.Verify(c.key); err != nil {
			v.Errors = append(v.Errors, badManifest(n, err))
		}
	}
	for _, f := range m.Files {
		errs, err := c.file(ctx, snap, f)
		if err != nil {
			return v, errors.Join(err, snap.Close())
		}
		v.Errors = append(v.Errors, errs...)
	}
	if err := c.save(ctx, snap, start, opt.UPID, v.Errors); err != nil {
		v.Errors = append(v.Errors, err)
	}
	return v, snap.Close()
}

// Lately reports whether an earlier verdict still counts.
func Lately(v *manifest.VerifyState, now time.Time, outdated time.Duration) bool {
	if v == nil {
		return false
	}
	u, err := upid.Parse(v.UPID)
	if err != nil {
		return false // the state is as good as none
	}
	const day = 24 * time.Hour
	return outdated == 0 || now.Sub(u.Start())/day <= outdated/day
}

// save stores ok or failed, unless all that went wrong is that something could
// not be found out.
func (c *checker) save(ctx context.Context, snap Snapshot, start time.Time, id string, errs []error) error {
	state := manifest.VerifyOK
	for _, err := range errs {
		if IsDamage(err) {
			state = manifest.VerifyFailed
		}
	}
	if state == manifest.VerifyOK && len(errs) > 0 {
		return nil
	}
	if id == "" {
		id = c.store.TaskID(start, "verify_snapshot", snap.Name().String())
	}
	if err := c.store.SaveVerdict(ctx, snap, manifest.VerifyState{State: state, UPID: id}); err != nil {
		return fmt.Errorf("keep the verdict on %s: %w", snap.Name(), err)
	}
	return nil
}

// IsDamage tells corrupt and missing apart from could-not-find-out.
func IsDamage(err error) bool {
	_, corrupt := errors.AsType[*repo.CorruptError](err)
	return corrupt || errors.Is(err, repo.ErrChunkMissing)
}

// file checks one archive. errs is what is wrong with it; err stops everything.
func (c *checker) file(ctx context.Context, snap Snapshot, f manifest.File) (errs []error, err error) {
	name, err := names.ParseArchive(f.Filename)
	if err != nil {
		return []error{badManifest(snap.Name(), err)}, nil
	}
	var (
		list   chunkList
		closer io.Closer
	)
	switch name.Kind() {
	case names.Blob:
		if err := c.blob(snap, name); err != nil {
			return []error{err}, nil
		}
		return nil, nil
	case names.Fidx:
		x, closeIndex, err := snap.OpenFixed(name)
		if err != nil {
			return []error{err}, nil
		}
		list, closer = fixedChunks{x}, closeIndex
	default:
		x, closeIndex, err := snap.OpenDynamic(name)
		if err != nil {
			return []error{err}, nil
		}
		list, closer = dynamicChunks{x}, closeIndex
	}
	errs, err = c.index(ctx, snap, f, list)
	return errs, errors.Join(err, closer.Close())
}

func badManifest(n names.Snapshot, err error) error {
	return &repo.CorruptError{What: "manifest of " + n.String(), Err: err}
}
