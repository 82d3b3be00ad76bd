package catalog

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// DefaultOwner owns groups for which no owner was given: the administrator of
// a PBS.
const DefaultOwner = "root@pam"

// LockedError is a session in the way. It is a repo.ErrLocked.
type LockedError struct {
	Session Running
	Until   time.Time // when its lease ends, by the clock of the store; zero: nobody asked
}

func (e *LockedError) Error() string {
	what := "a session"
	if s := e.Session; !s.Snapshot.IsZero() {
		what = fmt.Sprintf("a session of kind %s for %s", s.Kind, s.Snapshot.Path())
	}
	text := fmt.Sprintf("%s runs in process %d on %s", what, e.Session.PID, e.Session.Host)
	if !e.Until.IsZero() {
		text += fmt.Sprintf("; if that is dead, others may go on after %s", e.Until.UTC().Format(time.RFC3339))
	}
	return text + ": " + repo.ErrLocked.Error()
}

// Unwrap is repo.ErrLocked.
func (e *LockedError) Unwrap() error { return repo.ErrLocked }

// ErrFenced is wrapped when a session that wants to succeed was ended by others.
var ErrFenced = errors.New("the session was ended by somebody else, who found it without a sign of life for longer than its lease; " +
	"nothing of it is kept")

// ErrRemoved is wrapped when a session relied on what is not there any more.
var ErrRemoved = errors.New("what the backup shares with others was removed meanwhile; make it again")

// Request is a session that wants to begin.
type Request struct {
	Session
	Benchmark bool // it does not matter whose group it is
	Old       bool // the snapshot may be older than others of its group
}

// Base is what a backup may build on.
type Base struct {
	Name names.Snapshot
	Snapshot
}

// Begin lets a session begin, under the number of the entry. Of a backup it
// returns the newest snapshot of its group, nil where that is no base; of a
// mending the one that is mended.
func Begin(tx Tx, q Request) (*Base, error) {
	base, err := admit(tx, &q)
	if err != nil {
		return nil, err
	}
	return base, Set(tx, SessionKey(Number(tx.Seq())), q.Session)
}

func admit(tx Tx, q *Request) (*Base, error) {
	if q.Kind == GC {
		return nil, onlyCollection(tx)
	}
	if q.Snapshot.IsZero() {
		return nil, nil
	}
	n := q.Snapshot.Snapshot
	if err := NeedNamespace(tx, n.NS); err != nil {
		return nil, err
	}
	if err := free(tx, n.NS, n.Group); err != nil {
		return nil, err
	}
	if q.Kind == Mend {
		rec, ok, err := Get[Snapshot](tx, SnapshotKey(n))
		if err == nil && !ok {
			err = repo.ErrNotFound
		}
		return &Base{n, rec}, err
	}
	if err := makeGroup(tx, q); err != nil {
		return nil, err
	}
	if _, there := tx.Get(SnapshotKey(n)); there {
		return nil, repo.ErrExists
	}
	if q.Old {
		return nil, nil
	}
	return pickBase(tx, n)
}

// onlyCollection fails while a garbage collection runs.
func onlyCollection(r Reader) error {
	all, err := Sessions(r)
	if err != nil {
		return err
	}
	for _, s := range all {
		if s.Kind == GC {
			return &LockedError{Session: s}
		}
	}
	return nil
}

// free fails while a session writes into a group.
func free(r Reader, ns names.Namespace, g names.Group) error {
	s, err := InGroup(r, ns, g)
	if err != nil || s == nil {
		return err
	}
	return &LockedError{Session: *s}
}

// makeGroup makes the group where it is missing, and sees whose it is where it is
// not. That of benchmarks is everybody's.
func makeGroup(tx Tx, q *Request) error {
	n := q.Snapshot
	g, there, err := Get[Group](tx, GroupKey(n.NS, n.Group))
	if err != nil {
		return err
	}
	if !there || g.Owner == "" {
		q.NewGroup = !there
		if g.Owner = q.Owner; g.Owner == "" {
			g.Owner = DefaultOwner
		}
		if _, err := names.ParseAuthID(g.Owner); err != nil {
			return err
		}
		return Set(tx, GroupKey(n.NS, n.Group), g)
	}
	if q.Owner == "" || q.Owner == g.Owner || q.Benchmark {
		return nil
	}
	asking, err := names.ParseAuthID(q.Owner)
	if err != nil {
		return err
	}
	holding, err := names.ParseAuthID(g.Owner)
	if err != nil {
		return fmt.Errorf("owner of %s: %w", n.Group, err)
	}
	if !asking.MayUse(holding) {
		return fmt.Errorf("%w: %s belongs to %s, not to %s", repo.ErrOwner, n.Group, g.Owner, q.Owner)
	}
	return nil
}

// pickBase returns the newest finished snapshot. One whose last verification
// failed is no base, and neither is an older one then.
func pickBase(r Reader, n names.Snapshot) (*Base, error) {
	all, err := Times(r, n.NS, n.Group)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	newest := all[len(all)-1]
	if newest.Time >= n.Time {
		return nil, fmt.Errorf("%w: the group has a backup of %s, which is not older; is the clock right?",
			repo.ErrExists, names.FormatTime(newest.Time))
	}
	rec, err := NeedSnapshot(r, newest)
	if damaged(err) {
		return nil, nil // without a base everything is read and stored again
	}
	if err != nil {
		return nil, err
	}
	m, err := rec.ParseManifest(newest)
	if damaged(err) {
		return nil, nil
	}
	if err != nil || failed(m) {
		return nil, err
	}
	return &Base{newest, rec}, nil
}

func damaged(err error) bool {
	_, bad := errors.AsType[*repo.CorruptError](err)
	return bad
}

func failed(m *manifest.Manifest) bool {
	v := m.VerifyState()
	return v != nil && v.State == manifest.VerifyFailed
}

// End ends a session without success: what lies below its number is to be
// removed. One that is not there has ended.
func End(tx Tx, n Number) error {
	s, ok, err := Get[Session](tx, SessionKey(n))
	if err != nil || !ok {
		return err
	}
	tx.Delete(SessionKey(n))
	if err := Set(tx, EndedKey(n), Ended{Kind: s.Kind}); err != nil {
		return err
	}
	if s.Snapshot.IsZero() {
		return nil
	}
	return dropEmptyGroup(tx, s.Snapshot.NS, s.Snapshot.Group)
}

// dropEmptyGroup removes a group that has no snapshot and into which nobody
// writes.
func dropEmptyGroup(tx Tx, ns names.Namespace, g names.Group) error {
	if hasSnapshots(tx, ns, g) {
		return nil
	}
	s, err := InGroup(tx, ns, g)
	if err != nil || s != nil {
		return err
	}
	tx.Delete(GroupKey(ns, g))
	return nil
}

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

// Alive returns a session that may still succeed: it runs, and so does the one that
// guards it. It fails with ErrFenced otherwise.
func Alive(r Reader, n Number) (Session, error) {
	s, ok, err := Get[Session](r, SessionKey(n))
	if err != nil {
		return s, err
	}
	if ok && s.Guard != 0 {
		_, ok = r.Get(SessionKey(s.Guard))
	}
	if !ok {
		return s, ErrFenced
	}
	return s, nil
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
	healed := map[string]Bad{}
	for key, raw := range tx.Scan(BadPrefix) {
		b, err := Parse[Bad](key, raw)
		if err != nil {
			return err
		}
		d, err := digest.Parse(key[len(BadPrefix):])
		if err != nil {
			return badKey(key, err)
		}
		at, needed, err := c.Lies(d)
		switch {
		case err != nil:
			return err
		case !needed || at == b.Place():
		case slices.Contains(wrote, Number(at.Pack.Session)):
			healed[key] = Bad{at.Pack, at.Off, at.Len}
		case b.Lost():
			return fmt.Errorf("chunk %s, which it shares with another snapshot, was found damaged meanwhile; the next backup stores it again", d)
		}
	}
	for key, b := range healed {
		if err := Set(tx, key, b); err != nil {
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

// Guarded lists the sessions that end with another one.
func Guarded(r Reader, guard Number) ([]Number, error) {
	all, err := Sessions(r)
	if err != nil {
		return nil, err
	}
	var list []Number
	for _, s := range all {
		if s.Guard == guard {
			list = append(list, s.Number)
		}
	}
	slices.Sort(list)
	return list, nil
}
