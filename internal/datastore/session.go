package datastore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sync"
	"sync/atomic"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// Session writes one snapshot.
type Session struct {
	store    *Store
	name     names.Snapshot
	writer   *writer
	group    vfs.Unlocker
	own      vfs.Unlocker
	previous *Snapshot // nil: none
	newGroup bool
	mending  *mending // nil: the snapshot is new
	refill   *Refill  // nil: it is a backup, not a copy that comes back

	chunks, plain, encoded, duplicates atomic.Uint64

	mu     sync.Mutex
	open   map[*indexFile]struct{} // indexes being written
	spoilt bool                    // an index came to nothing
	files  int                     // archives in place
	ended  bool                    // after Finish or Abort
	spare  [][]byte                // buffers of hasChunk: as many as calls at a time
}

// Begin starts a backup. It fails with vfs.ErrLocked when another backup of
// the group runs, repo.ErrExists when there is a snapshot of that time,
// repo.ErrOwner when the group is someone else's.
func (s *Store) Begin(ctx context.Context, b repo.Begin) (repo.Session, error) {
	if err := b.Snapshot.Check(); err != nil {
		return nil, err
	}
	ses, err := s.begin(ctx, b, (*Session).pickPrevious)
	if err != nil {
		return nil, fmt.Errorf("start backup %s: %w", b.Snapshot, err)
	}
	return ses, nil
}

// begin takes what a session needs; base decides on its previous snapshot.
func (s *Store) begin(ctx context.Context, b repo.Begin, base func(*Session, context.Context) error) (_ *Session, err error) {
	n := b.Snapshot
	if err := s.needNamespace(n.NS); err != nil {
		return nil, err
	}
	ses := &Session{store: s, name: n, open: map[*indexFile]struct{}{}}
	defer func() {
		if err != nil {
			if ses.newGroup {
				err = errors.Join(err, s.removeEmptyGroup(n.NS, n.Group))
			}
			err = errors.Join(err, ses.release())
		}
	}()
	if ses.writer, err = s.register(); err != nil {
		return nil, err
	}
	if ses.group, err = s.lockGroup(n.NS, n.Group); err != nil {
		return nil, err
	}
	if err := ses.makeGroup(b.Owner, b.Benchmark); err != nil {
		return nil, err
	}
	if err := base(ses, ctx); err != nil {
		return nil, err
	}
	if ses.own, err = s.lockSnapshot(n, lockExclusive); err != nil {
		return nil, err
	}
	err = s.fs.Mkdir(n.Path(), dirPerm)
	if errors.Is(err, fs.ErrExist) {
		return nil, repo.ErrExists
	}
	return ses, err
}

// makeGroup makes the group's directory and owner where they are missing. A
// group without a readable owner may be what a crash left: it gets one. That of
// benchmarks is everybody's.
func (b *Session) makeGroup(owner string, benchmark bool) error {
	s, n := b.store, b.name
	if err := makeDir(s.fs, under(n.NS, string(n.Type)), dirPerm); err != nil {
		return err
	}
	err := s.fs.Mkdir(n.GroupPath(), dirPerm)
	switch {
	case err == nil:
		b.newGroup = true
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	has, err := s.owner(n.NS, n.Group)
	if err != nil {
		return err
	}
	if has == "" {
		if owner == "" {
			owner = DefaultOwner
		}
		return s.writeOwner(n.NS, n.Group, owner)
	}
	if owner == "" || owner == has || benchmark {
		return nil
	}
	asking, err := names.ParseAuthID(owner)
	if err != nil {
		return err
	}
	holding, err := names.ParseAuthID(has)
	if err != nil {
		return fmt.Errorf("owner file of %s: %w", n.Group, err)
	}
	if !asking.MayUse(holding) {
		return fmt.Errorf("%w: %s belongs to %s, not to %s", repo.ErrOwner, n.Group, has, owner)
	}
	return nil
}

// pickPrevious locks and opens the newest finished snapshot. One whose last
// verification failed is no base, and neither is an older one then.
func (b *Session) pickPrevious(ctx context.Context) error {
	s := b.store
	snaps, err := s.times(b.name.NS, b.name.Group)
	if err != nil {
		return err
	}
	for i := len(snaps) - 1; i >= 0; i-- {
		done, err := s.finished(snaps[i])
		if err != nil {
			return err
		}
		if !done {
			continue
		}
		if snaps[i].Time >= b.name.Time {
			return fmt.Errorf("%w: the group has a backup of %s, which is not older; is the clock right?",
				repo.ErrExists, names.FormatTime(snaps[i].Time))
		}
		prev, err := s.open(snaps[i])
		if _, bad := errors.AsType[*repo.CorruptError](err); bad || errors.Is(err, repo.ErrNotFound) {
			return nil // without a base everything is read and stored again
		}
		if err != nil {
			return err
		}
		if v := prev.m.VerifyState(); v != nil && v.State == manifest.VerifyFailed {
			return prev.Close()
		}
		lost, err := s.lost(ctx)
		if err != nil {
			return errors.Join(err, prev.Close())
		}
		_, lacks, err := s.namesLost(prev.name, lost)
		if err != nil || lacks {
			return errors.Join(err, prev.Close())
		}
		b.previous = prev
		return nil
	}
	return context.Cause(ctx)
}

// Snapshot names the snapshot being written.
func (b *Session) Snapshot() names.Snapshot { return b.name }

// Previous is the base whose chunks are known; nil when there is none.
func (b *Session) Previous() repo.Snapshot {
	if b.previous == nil {
		return nil
	}
	return b.previous
}

// Has reports whether a sound chunk is stored, and touches it.
func (b *Session) Has(ctx context.Context, d digest.Digest) (bool, error) {
	var buf []byte
	b.mu.Lock()
	if n := len(b.spare); n > 0 {
		buf, b.spare = b.spare[n-1], b.spare[:n-1]
	}
	b.mu.Unlock()
	ok, buf, err := b.store.hasChunk(ctx, d, buf)
	b.mu.Lock()
	b.spare = append(b.spare, buf[:0])
	b.mu.Unlock()
	if ok {
		b.duplicates.Add(1)
	}
	return ok, err
}

// Put stores an encoded chunk of plain bytes.
func (b *Session) Put(ctx context.Context, d digest.Digest, plain int, raw []byte) (bool, error) {
	if plain < 1 || plain > blob.MaxChunk {
		return false, fmt.Errorf("store chunk %s: %d plain bytes, want 1 to %d", d, plain, blob.MaxChunk)
	}
	stored, err := b.store.putChunk(ctx, d, raw)
	if err != nil {
		return false, err
	}
	b.chunks.Add(1)
	b.plain.Add(uint64(plain))
	b.encoded.Add(uint64(len(raw)))
	if !stored {
		b.duplicates.Add(1)
	}
	return stored, nil
}

// PutBlob stores an encoded blob under its name.
func (b *Session) PutBlob(_ context.Context, name names.Archive, raw []byte) error {
	if name.Kind() != names.Blob || name.String() == manifestName {
		return fmt.Errorf("store %s: want a name that ends in .blob, other than %s", name, manifestName)
	}
	if _, err := blob.Check(raw); err != nil {
		return fmt.Errorf("store %s: %w", name, err)
	}
	if err := b.putFile(b.name.Path()+"/"+name.String(), raw); err != nil {
		return fmt.Errorf("store %s: %w", name, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.files++
	return nil
}

// putFile stores a small file under its name, or a temporary one while the snapshot
// is mended.
func (b *Session) putFile(name string, content []byte) error {
	to := name
	if b.mending != nil {
		var err error
		if to, err = b.store.tempName(name); err != nil {
			return err
		}
	}
	if err := b.store.replaceFile(to, content, b.store.opt.Sync == SyncFile); err != nil || to == name {
		return err
	}
	return b.place(to, name)
}

// Finish makes the snapshot visible and returns when it is durable.
func (b *Session) Finish(ctx context.Context, m *manifest.Manifest) error {
	if err := b.finish(ctx, m); err != nil {
		return fmt.Errorf("finish backup %s: %w", b.name, err)
	}
	return nil
}

func (b *Session) finish(ctx context.Context, m *manifest.Manifest) error {
	b.mu.Lock()
	open, spoilt, files, ended := len(b.open), b.spoilt, b.files, b.ended
	b.mu.Unlock()
	switch {
	case ended:
		return errors.New("the session has ended")
	case open > 0:
		return errors.New("an index is still being written")
	case spoilt:
		return errors.New("one of its indexes could not be written")
	case files == 0 || len(m.Files) == 0:
		return errors.New("it holds no archive")
	}
	if b.mending != nil {
		if err := b.mending.check(m); err != nil {
			return err
		}
	}
	if b.previous != nil { // its index vouches for the chunks that were not sent
		m, err := b.store.loadManifest(b.previous.name)
		if errors.Is(err, repo.ErrNotFound) {
			return fmt.Errorf("the previous snapshot %s vanished meanwhile", b.previous.name)
		}
		if err != nil {
			return fmt.Errorf("the previous snapshot: %w", err)
		}
		if v := m.VerifyState(); v != nil && v.State == manifest.VerifyFailed {
			return fmt.Errorf("the previous snapshot %s, whose chunks it shares, was found damaged meanwhile; "+
				"the next backup stores them again", b.previous.name)
		}
	}
	if b.refill != nil {
		if err := b.refill.whole(ctx, b.name); err != nil {
			return err
		}
	}
	lost, err := b.store.lost(ctx)
	if err != nil {
		return err
	}
	d, lacks, err := b.namesLost(lost)
	if err != nil {
		return err
	}
	if lacks {
		return fmt.Errorf("chunk %s, which it shares with another snapshot, was found damaged meanwhile; the next backup stores it again", d)
	}
	if err := b.sync(); err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil { // the last moment to stop
		return err
	}
	if b.refill == nil { // what comes back says how it was backed up
		m.SetUploadStats(manifest.UploadStats{
			Count: b.chunks.Load(), Size: b.plain.Load(),
			CompressedSize: b.encoded.Load(), Duplicates: b.duplicates.Load(),
		})
	}
	store := func() error { return b.store.storeManifest(b.name, m) }
	if b.mending != nil {
		store = func() error { return b.commit(m) }
	}
	if err := store(); err != nil {
		return err
	}
	b.mu.Lock()
	b.ended = true
	b.mu.Unlock()
	// The snapshot is there for good. A lock that cannot be given back ends
	// with the process at the latest: no reason to call a backup failed.
	_ = b.release()
	return nil
}

// sync makes everything below the manifest durable.
func (b *Session) sync() error {
	switch b.store.opt.Sync {
	case SyncNone:
		return nil
	case SyncFilesystem:
		return b.store.fs.SyncFS()
	}
	// Chunks are durable already; the directories up to the root may be new.
	for dir := b.name.Path(); ; dir = path.Dir(dir) {
		if err := b.store.fs.SyncDir(dir); err != nil {
			return err
		}
		if dir == "." {
			return nil
		}
	}
}

// Abort removes the unfinished snapshot, and the group if it came with it.
// Indexes that are still being written are closed.
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
	if b.mending != nil {
		return errors.Join(b.store.clearAway(b.name), b.release())
	}
	// The manifest is there when making it durable failed.
	err := b.store.removeSnapshot(b.name.Path())
	if b.newGroup {
		err = errors.Join(err, b.store.removeEmptyGroup(b.name.NS, b.name.Group))
	}
	return errors.Join(err, b.release())
}

// release gives the locks back, in the order of PBS.
func (b *Session) release() error {
	var errs []error
	if b.previous != nil {
		errs = append(errs, b.previous.Close())
	}
	if b.writer != nil {
		errs = append(errs, b.writer.release())
	}
	if b.own != nil {
		errs = append(errs, b.own.Unlock())
	}
	if b.group != nil {
		errs = append(errs, b.group.Unlock())
	}
	return errors.Join(errs...)
}
