package datastore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

var _ repo.Mender = (*Store)(nil)

// mending is what a session has besides when its snapshot is there already: its
// files get their names together, at the end.
type mending struct {
	old    *manifest.Manifest // nil: it cannot be read
	staged []stagedFile       // under mu of the session
}

// stagedFile is complete, and has a temporary name.
type stagedFile struct{ temp, name string }

// Mend starts to store a finished snapshot anew. It fails with vfs.ErrLocked when
// somebody reads the snapshot, or a backup of the group runs.
func (s *Store) Mend(_ context.Context, n names.Snapshot) (repo.Session, error) {
	if err := n.Check(); err != nil {
		return nil, err
	}
	ses, err := s.mend(n)
	if err != nil {
		return nil, fmt.Errorf("mend %s: %w", n, err)
	}
	return ses, nil
}

func (s *Store) mend(n names.Snapshot) (_ *Session, err error) {
	if err := s.needNamespace(n.NS); err != nil {
		return nil, err
	}
	ses := &Session{store: s, name: n, open: map[*indexFile]struct{}{}, mending: &mending{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, ses.release())
		}
	}()
	if ses.writer, err = s.register(); err != nil {
		return nil, err
	}
	if ses.group, err = s.lockGroup(n.NS, n.Group); err != nil {
		return nil, err
	}
	if ses.own, err = s.lockSnapshot(n, lockExclusive); err != nil {
		return nil, err
	}
	if err := s.clearAway(n); err != nil {
		return nil, err
	}
	ses.mending.old, err = s.loadManifest(n)
	if _, bad := errors.AsType[*repo.CorruptError](err); bad {
		err = nil
	}
	return ses, err
}

// clearAway removes what has no name yet, of this mending or of one that was killed.
func (s *Store) clearAway(n names.Snapshot) error {
	entries, err := s.fs.ReadDir(n.Path())
	if errors.Is(err, fs.ErrNotExist) {
		return repo.ErrNotFound
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsRegular() && strings.Contains(e.Name, ".tmp_") {
			if err := ignoreMissing(s.fs.Remove(n.Path() + "/" + e.Name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// namesLost returns a chunk that the session's indexes name and that is lost.
func (b *Session) namesLost(lost map[digest.Digest]bool) (d digest.Digest, ok bool, err error) {
	if b.mending == nil {
		return b.store.namesLost(b.name, lost)
	}
	var indexes []string
	for _, f := range b.mending.staged {
		if strings.HasSuffix(f.name, "idx") {
			indexes = append(indexes, f.temp)
		}
	}
	return b.store.nameLost(indexes, lost)
}

// place gives a complete file its name, now or at the end of a mending.
func (b *Session) place(temp, name string) error {
	if b.mending == nil {
		return b.store.fs.Rename(temp, name)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mending.staged = append(b.mending.staged, stagedFile{temp, name})
	return nil
}

// check reports whether m is of what is mended.
func (g *mending) check(m *manifest.Manifest) error {
	if g.old == nil || slices.Equal(m.Files, g.old.Files) && m.Signature == g.old.Signature {
		return nil
	}
	return errors.New("the copy is not of the same backup: it lists other archives than the snapshot that is there")
}

// commit gives the files their names. Each is what the manifest says, which is the
// one that is there, so it does not matter between which of them the power fails.
func (b *Session) commit(m *manifest.Manifest) error {
	for _, f := range b.mending.staged {
		if err := b.store.fs.Rename(f.temp, f.name); err != nil {
			return err
		}
	}
	if b.store.opt.Sync != SyncNone {
		if err := b.store.fs.SyncDir(b.name.Path()); err != nil {
			return err
		}
	}
	if old := b.mending.old; old != nil {
		if err := old.SetRaw("verify_state", nil); err != nil {
			return err
		}
		m = old
	}
	return b.store.storeManifest(b.name, m)
}
