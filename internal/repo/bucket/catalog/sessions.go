package catalog

import (
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
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
