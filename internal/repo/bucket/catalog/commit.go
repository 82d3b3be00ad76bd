package catalog

import (
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// ErrRemoved is wrapped when a session relied on what is not there any more.
var ErrRemoved = errors.New("what the backup shares with others was removed meanwhile; make it again")

// Chunks is where the snapshot of a session says that chunks lie.
type Chunks interface {
	// Lies looks up one chunk; ok is false if the snapshot does not need it.
	Lies(d digest.Digest) (at pack.Location, ok bool, err error)
	// Packs are all packs that it needs.
	Packs() []pack.ID
}

// Success is what a session leaves.
type Success struct {
	Runs     []Run     // its indexes, in order
	Snapshot *Snapshot // nil: only packs
	Chunks   Chunks    // of the snapshot
	Base     *Base     // nil: none
	Wrote    []Number  // other sessions of the same process, whose packs have what was sent
}

// Commit lets a session succeed.
func Commit(tx Tx, n Number, c Success) error {
	s, err := Alive(tx, n)
	if err != nil {
		return err
	}
	tx.Delete(SessionKey(n))
	for i, r := range c.Runs {
		if err := Set(tx, RunKey(n, uint32(i)), r); err != nil {
			return err
		}
	}
	if c.Snapshot == nil {
		return nil
	}
	if err := soundBase(tx, c.Base); err != nil {
		return err
	}
	if err := soundChunks(tx, slices.Concat(c.Wrote, []Number{n}), c.Chunks); err != nil {
		return err
	}
	if err := usePacks(tx, c.Chunks.Packs()); err != nil {
		return err
	}
	return place(tx, s, c)
}

// place sets the session's snapshot.
func place(tx Tx, s Session, c Success) error {
	name, rec := s.Snapshot.Snapshot, *c.Snapshot
	old, there, err := Get[Snapshot](tx, SnapshotKey(name))
	switch {
	case err != nil:
		return err
	case s.Kind == Mend && !there:
		return fmt.Errorf("it vanished meanwhile: %w", repo.ErrNotFound)
	case s.Kind != Mend && there:
		return repo.ErrExists
	case !there:
		return Set(tx, SnapshotKey(name), rec)
	}
	if err := Set(tx, GoneKey(old.Session), Gone{SnapshotName{name}, old.Map}); err != nil {
		return err
	}
	rec.Protected, rec.Log = old.Protected, old.Log
	was, err := old.ParseManifest(name)
	if damaged(err) {
		return Set(tx, SnapshotKey(name), rec)
	}
	if err != nil {
		return err
	}
	if err := SameBackup(was, &rec, name); err != nil {
		return err
	}
	if err := was.SetRaw("verify_state", nil); err != nil {
		return err
	}
	if rec.Manifest, err = was.Marshal(); err != nil {
		return fmt.Errorf("manifest of %s: %w", name, err)
	}
	return Set(tx, SnapshotKey(name), rec)
}

// SameBackup sees that what takes the place of a snapshot is of the same backup.
func SameBackup(was *manifest.Manifest, rec *Snapshot, name names.Snapshot) error {
	m, err := rec.ParseManifest(name)
	if err != nil {
		return err
	}
	if !slices.Equal(m.Files, was.Files) || m.Signature != was.Signature {
		return errors.New("the copy is not of the same backup: it lists other archives than the snapshot that is there")
	}
	return nil
}

// soundBase sees that the base, whose indexes vouch for the chunks that were not
// sent, was not found damaged meanwhile. That it was removed does no harm: its
// packs stay as long as a session runs that ran then.
func soundBase(r Reader, b *Base) error {
	if b == nil {
		return nil
	}
	rec, ok, err := Get[Snapshot](r, SnapshotKey(b.Name))
	if err != nil || !ok || rec.Session != b.Session {
		return err
	}
	m, err := rec.ParseManifest(b.Name)
	if err != nil {
		return err
	}
	if failed(m) {
		return fmt.Errorf("the previous snapshot %s, whose chunks it shares, was found damaged meanwhile; "+
			"the next backup stores them again", b.Name)
	}
	return nil
}

// soundChunks sees that no chunk is needed that was found damaged, unless the
// session has a sound one: then that one is there for everybody.
func soundChunks(tx Tx, wrote []Number, c Chunks) error {
	bad, err := BadChunks(tx)
	if err != nil {
		return err
	}
	for d, b := range bad {
		at, needed, err := c.Lies(d)
		switch {
		case err != nil:
			return err
		case !needed || at == b.Place():
		case slices.Contains(wrote, Number(at.Pack.Session)):
			err = Set(tx, BadKey(d), Bad{at.Pack, at.Off, at.Len})
		case b.Lost():
			return fmt.Errorf("chunk %s, which it shares with another snapshot, was found damaged meanwhile; the next backup stores it again", d)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// usePacks takes packs off the lists of what is condemned. One that is being
// removed is not there for long.
func usePacks(tx Tx, packs []pack.ID) error {
	lists := map[string]Dead{}
	for key, raw := range tx.Scan(DeadPrefix) {
		list, err := Parse[Dead](key, raw)
		if err != nil {
			return err
		}
		lists[key] = list
	}
	needed := make(map[pack.ID]bool, len(packs))
	for _, p := range packs {
		needed[p] = true
		m, ok, err := Get[Moved](tx, MovedKey(p))
		if err != nil {
			return err
		}
		if ok && m.Void {
			return fmt.Errorf("pack %s: %w", p, ErrRemoved)
		}
	}
	for key, list := range lists {
		left := slices.DeleteFunc(slices.Clone(list.Packs), func(p pack.ID) bool { return needed[p] })
		if len(left) == len(list.Packs) {
			continue
		}
		if list.Doomed != 0 {
			return fmt.Errorf("packs condemned by entry %s: %w", key[len(DeadPrefix):], ErrRemoved)
		}
		if list.Packs = left; list.Empty() {
			tx.Delete(key)
			continue
		}
		if err := Set(tx, key, list); err != nil {
			return err
		}
	}
	return nil
}
