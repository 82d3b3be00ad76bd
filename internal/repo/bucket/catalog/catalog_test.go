package catalog

import (
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/format/upid"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// state is a log in memory.
type state struct {
	values map[string][]byte
	seq    uint64
}

func (s *state) Get(key string) ([]byte, bool) { v, ok := s.values[key]; return v, ok }
func (s *state) Set(key string, value []byte)  { s.values[key] = value }
func (s *state) Delete(key string)             { delete(s.values, key) }
func (s *state) Seq() uint64                   { return s.seq + 1 }
func (s *state) Scan(prefix string) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for _, key := range slices.Sorted(maps.Keys(s.values)) {
			if strings.HasPrefix(key, prefix) && !yield(key, s.values[key]) {
				return
			}
		}
	}
}

// update makes a change, or none if it fails.
func (s *state) update(f func(Tx) error) error {
	tx := &state{maps.Clone(s.values), s.seq}
	if err := f(tx); err != nil {
		return err
	}
	*s = *tx
	s.seq++
	return nil
}

func newState() *state { return &state{values: map[string][]byte{}} }

var task = upid.New("h", 1, time.Unix(1_700_000_000, 0), "verify_snapshot", "", "root@pam").String()

var vm100 = names.Snapshot{Group: names.Group{Type: names.VM, ID: "100"}, Time: 1_700_000_000}

func later(n names.Snapshot, seconds int64) names.Snapshot { n.Time += seconds; return n }

func (s *state) begin(t *testing.T, q Request) (Number, *Base) {
	t.Helper()
	var base *Base
	err := s.update(func(tx Tx) (err error) {
		base, err = Begin(tx, q)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return Number(s.seq), base
}

func backupOf(n names.Snapshot) Request {
	return Request{Session: Session{Kind: Backup, Snapshot: SnapshotName{n}}}
}

// chunks are where a snapshot's chunks lie.
type chunks map[digest.Digest]pack.Location

func (c chunks) Lies(d digest.Digest) (pack.Location, bool, error) {
	at, ok := c[d]
	return at, ok, nil
}

func (c chunks) Packs() (all []pack.ID) {
	for _, at := range c {
		all = append(all, at.Pack)
	}
	return all
}

func record(t *testing.T, n names.Snapshot, session Number) *Snapshot {
	t.Helper()
	m := manifest.New(n)
	if err := m.Add(manifest.File{Filename: "a.conf.blob", CryptMode: manifest.ModeNone, Size: 12}); err != nil {
		t.Fatal(err)
	}
	text, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return &Snapshot{Session: session, Manifest: text}
}

func (s *state) commit(t *testing.T, n names.Snapshot, session Number, c chunks) error {
	t.Helper()
	rec := record(t, n, session)
	return s.update(func(tx Tx) error { return Commit(tx, session, Success{Snapshot: rec, Chunks: c}) })
}

func (s *state) backup(t *testing.T, n names.Snapshot, c chunks) Number {
	t.Helper()
	session, _ := s.begin(t, backupOf(n))
	if err := s.commit(t, n, session, c); err != nil {
		t.Fatal(err)
	}
	return session
}

func TestOneSessionAtATimeWritesIntoAGroup(t *testing.T) {
	s := newState()
	first, _ := s.begin(t, backupOf(vm100))
	err := s.update(func(tx Tx) error { _, err := Begin(tx, backupOf(later(vm100, 1))); return err })
	locked, ok := errors.AsType[*LockedError](err)
	if !ok || locked.Session.Number != first || !errors.Is(err, repo.ErrLocked) {
		t.Fatalf("a second one: %v", err)
	}
	other := vm100
	other.ID = "101"
	s.begin(t, backupOf(other))
	if err := s.commit(t, vm100, first, nil); err != nil {
		t.Fatal(err)
	}
	if _, base := s.begin(t, backupOf(later(vm100, 1))); base == nil || base.Name != vm100 {
		t.Errorf("base %v", base)
	}
}

func TestASessionThatOthersEndedCommitsNothing(t *testing.T) {
	s := newState()
	session, _ := s.begin(t, backupOf(vm100))
	if err := s.update(func(tx Tx) error { return End(tx, session) }); err != nil {
		t.Fatal(err)
	}
	before := maps.Clone(s.values)
	if err := s.commit(t, vm100, session, nil); !errors.Is(err, ErrFenced) {
		t.Fatalf("err = %v", err)
	}
	if !maps.EqualFunc(before, s.values, func(a, b []byte) bool { return string(a) == string(b) }) {
		t.Error("something changed")
	}
	if _, ok := s.Get(EndedKey(session)); !ok {
		t.Error("nobody is told to remove what it left")
	}
	if _, ok := s.Get(GroupKey("", vm100.Group)); ok {
		t.Error("its group stays, without a snapshot")
	}
}

func TestNewestSnapshotIsTheBaseOrNone(t *testing.T) {
	s := newState()
	s.backup(t, vm100, nil)
	second := later(vm100, 60)
	s.backup(t, second, nil)
	next := later(vm100, 120)
	verdict := func(v string) {
		t.Helper()
		err := s.update(func(tx Tx) error {
			return ChangeManifest(tx, second, func(m *manifest.Manifest) { m.SetVerifyState(manifest.VerifyState{State: v, UPID: task}) })
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	base := func() *Base {
		b, err := pickBase(s, next)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if b := base(); b == nil || b.Name != second {
		t.Errorf("base %v", b)
	}
	verdict(manifest.VerifyOK)
	if b := base(); b == nil {
		t.Error("one that is sound is no base")
	}
	verdict(manifest.VerifyFailed)
	if b := base(); b != nil {
		t.Errorf("base %s, which is damaged or older than that", b.Name)
	}
	if _, err := pickBase(s, second); !errors.Is(err, repo.ErrExists) || !strings.Contains(err.Error(), "is the clock right") {
		t.Errorf("a backup that is not newer: %v", err)
	}
}

func TestBaseThatIsFoundDamagedMeanwhileFailsTheCommit(t *testing.T) {
	s := newState()
	s.backup(t, vm100, nil)
	n := later(vm100, 60)
	session, base := s.begin(t, backupOf(n))
	err := s.update(func(tx Tx) error {
		return ChangeManifest(tx, vm100, func(m *manifest.Manifest) {
			m.SetVerifyState(manifest.VerifyState{State: manifest.VerifyFailed, UPID: task})
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	commit := func() error {
		return s.update(func(tx Tx) error {
			return Commit(tx, session, Success{Snapshot: record(t, n, session), Base: base, Chunks: chunks{}})
		})
	}
	if err := commit(); err == nil || !strings.Contains(err.Error(), "found damaged") {
		t.Fatalf("err = %v", err)
	}
	if err := s.update(func(tx Tx) error { return Forget(tx, vm100) }); err != nil {
		t.Fatal(err)
	}
	if err := commit(); err != nil {
		t.Errorf("one that was removed is no damage: %v", err)
	}
}

func TestSnapshotThatIsRemovedStaysCounted(t *testing.T) {
	s := newState()
	session := s.backup(t, vm100, nil)
	if err := s.update(func(tx Tx) error { return SetProtected(tx, vm100, true) }); err != nil {
		t.Fatal(err)
	}
	if err := s.update(func(tx Tx) error { return Forget(tx, vm100) }); !errors.Is(err, repo.ErrProtected) {
		t.Fatalf("protected: %v", err)
	}
	if err := s.update(func(tx Tx) error { return SetProtected(tx, vm100, false) }); err != nil {
		t.Fatal(err)
	}
	if err := s.update(func(tx Tx) error { return Forget(tx, vm100) }); err != nil {
		t.Fatal(err)
	}
	gone, ok, err := Get[Gone](s, GoneKey(session))
	if err != nil || !ok || gone.Snapshot.Snapshot != vm100 {
		t.Errorf("%+v %v %v", gone, ok, err)
	}
	if len(s.values) != 1 {
		t.Errorf("left: %q", slices.Collect(maps.Keys(s.values)))
	}
	if err := s.update(func(tx Tx) error { return Forget(tx, vm100) }); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("again: %v", err)
	}
}

func TestDamagedChunkNeedsASoundOne(t *testing.T) {
	d := digest.Of([]byte("x"))
	foreign := pack.Location{Pack: pack.ID{Session: 77}, Off: 5, Len: 9}
	for _, tc := range []struct {
		name    string
		known   Bad
		own     bool
		refused bool
	}{
		{"it is shared", Bad{}, false, true},
		{"the session has it", Bad{}, true, false},
		{"the sound one is shared", Bad{foreign.Pack, 5, 9}, false, false},
		{"somebody else has it, and the session too", Bad{foreign.Pack, 5, 9}, true, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newState()
			session, _ := s.begin(t, backupOf(vm100))
			if err := Set(s, BadKey(d), tc.known); err != nil {
				t.Fatal(err)
			}
			at := foreign
			if tc.own {
				at = pack.Location{Pack: pack.ID{Session: uint64(session), Number: 3}, Off: 1, Len: 2}
			}
			err := s.commit(t, vm100, session, chunks{d: at})
			if (err != nil) != tc.refused {
				t.Fatalf("err = %v", err)
			}
			if b, _, err := Get[Bad](s, BadKey(d)); err != nil || !tc.refused && b.Place() != at {
				t.Errorf("%+v, %v", b, err)
			}
		})
	}
}

func TestCommitTakesItsPacksOffTheListOfTheCondemned(t *testing.T) {
	mine, other := pack.ID{Session: 1, Number: 1}, pack.ID{Session: 1, Number: 2}
	needs := chunks{digest.Of([]byte("x")): {Pack: mine, Len: 4}}
	for _, tc := range []struct {
		name    string
		dead    Dead
		left    []pack.ID
		refused bool
	}{
		{"one of two", Dead{Packs: []pack.ID{mine, other}}, []pack.ID{other}, false},
		{"the only one", Dead{Packs: []pack.ID{mine}}, nil, false},
		{"one that is being removed", Dead{Packs: []pack.ID{mine, other}, Doomed: 5}, []pack.ID{mine, other}, true},
		{"others are being removed", Dead{Packs: []pack.ID{other}, Doomed: 5}, []pack.ID{other}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newState()
			session, _ := s.begin(t, backupOf(vm100))
			if err := Set(s, DeadKey(9, 0), tc.dead); err != nil {
				t.Fatal(err)
			}
			if err := s.commit(t, vm100, session, needs); errors.Is(err, ErrRemoved) != tc.refused {
				t.Fatalf("err = %v", err)
			}
			list, ok, err := Get[Dead](s, DeadKey(9, 0))
			if err != nil || ok != (tc.left != nil) || !slices.Equal(list.Packs, tc.left) {
				t.Errorf("left: %v %v", list.Packs, err)
			}
		})
	}
}

func TestKeysOfSnapshotsHaveOneForm(t *testing.T) {
	n := vm100
	n.NS = "a/b"
	if got, err := ParseSnapshotKey(SnapshotKey(n)); err != nil || got != n {
		t.Errorf("%+v %v", got, err)
	}
	for _, key := range []string{"snap/vm/100/2023-11-14T22:13:20Z", "snap/|vm/100", "snap/a|ns/b/vm/100/2023-11-14T22:13:20Z", "group/|vm/100/2023-11-14T22:13:20Z"} {
		if _, err := ParseSnapshotKey(key); err == nil {
			t.Errorf("%q is one", key)
		}
	}
}

func TestGroupsMoveWholeOrNotAtAll(t *testing.T) {
	s := newState()
	create := func(ns names.Namespace) {
		if err := s.update(func(tx Tx) error { return CreateNamespace(tx, ns) }); err != nil {
			t.Fatal(err)
		}
	}
	create("a")
	s.backup(t, vm100, nil)
	s.backup(t, later(vm100, 60), nil)
	move := func(merge bool) error {
		return s.update(func(tx Tx) error { return MoveGroup(tx, "", vm100.Group, "a", merge) })
	}
	if err := move(false); err != nil {
		t.Fatal(err)
	}
	inside := later(vm100, 30)
	s.backup(t, inside, nil)
	if err := move(false); !errors.Is(err, repo.ErrExists) {
		t.Errorf("into one that is there: %v", err)
	}
	if err := move(true); !errors.Is(err, repo.ErrExists) || !strings.Contains(err.Error(), "not newer") {
		t.Errorf("among those that are there: %v", err)
	}
	all, err := Times(s, "a", vm100.Group)
	if err != nil || len(all) != 2 {
		t.Errorf("%v %v", all, err)
	}
	left, err := Times(s, "", vm100.Group)
	if err != nil || len(left) != 1 {
		t.Errorf("%v %v", left, err)
	}
}

func TestOneGarbageCollectionRunsAtATime(t *testing.T) {
	s := newState()
	collection := Request{Session: Session{Kind: GC}}
	first, _ := s.begin(t, collection)
	err := s.update(func(tx Tx) error {
		_, err := Begin(tx, collection)
		return err
	})
	if locked, ok := errors.AsType[*LockedError](err); !ok || locked.Session.Number != first {
		t.Fatalf("a second one: %v", err)
	}
	if err := s.update(func(tx Tx) error { return End(tx, first) }); err != nil {
		t.Fatal(err)
	}
	s.begin(t, collection)
}

func FuzzKeysHaveOneForm(f *testing.F) {
	n := vm100
	n.NS = "a/b"
	f.Add(SnapshotKey(n))
	f.Add(GroupKey("a", vm100.Group))
	f.Add("snap/|ct/1/2023-11-14T22:13:20Z")
	f.Add("group/a|ns/b/vm/1")
	f.Fuzz(func(t *testing.T, key string) {
		if s, err := ParseSnapshotKey(key); err == nil && SnapshotKey(s) != key {
			t.Errorf("%q is read as %+v", key, s)
		}
		if ns, g, err := ParseGroupKey(key); err == nil && GroupKey(ns, g) != key {
			t.Errorf("%q is read as %s in %q", key, g, ns)
		}
		if n, err := ParseNumber(key); err == nil && n.String() != key {
			t.Errorf("%q is read as %s", key, n)
		}
	})
}

func TestSessionSucceedsOnlyBesideItsGuard(t *testing.T) {
	for _, ended := range []bool{false, true} {
		s := newState()
		guard, _ := s.begin(t, Request{Session: Session{Kind: Refill}})
		q := backupOf(vm100)
		q.Kind, q.Guard, q.Old = Refill, guard, true
		session, base := s.begin(t, q)
		if base != nil {
			t.Error("what comes back has a base")
		}
		if ended {
			if err := s.update(func(tx Tx) error { return End(tx, guard) }); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.commit(t, vm100, session, chunks{}); errors.Is(err, ErrFenced) != ended {
			t.Errorf("guard ended %v: %v", ended, err)
		}
	}
}

func TestSnapshotOfAPackThatIsNotThereIsRefused(t *testing.T) {
	for _, void := range []bool{false, true} {
		s := newState()
		session, _ := s.begin(t, backupOf(vm100))
		p := pack.ID{Session: 1, Number: 1}
		if err := Set(s, MovedKey(p), Moved{In: "s/1/m", Void: void}); err != nil {
			t.Fatal(err)
		}
		err := s.commit(t, vm100, session, chunks{digest.Of([]byte("x")): {Pack: p, Len: 4}})
		if errors.Is(err, ErrRemoved) != void {
			t.Errorf("void %v: %v", void, err)
		}
	}
}

// What a mending may change, and what stays.
func TestMendedSnapshotKeepsWhatPeopleSaidOfIt(t *testing.T) {
	s := newState()
	old := s.backup(t, vm100, nil)
	for _, change := range []func(Tx) error{
		func(tx Tx) error { return SetProtected(tx, vm100, true) },
		func(tx Tx) error { return SetLog(tx, vm100, old, 99) },
		func(tx Tx) error {
			return ChangeManifest(tx, vm100, func(m *manifest.Manifest) {
				m.SetNotes("before the upgrade")
				m.SetVerifyState(manifest.VerifyState{State: manifest.VerifyFailed, UPID: task})
			})
		},
	} {
		if err := s.update(change); err != nil {
			t.Fatal(err)
		}
	}
	q := backupOf(vm100)
	q.Kind = Mend
	session, base := s.begin(t, q)
	if base == nil || base.Session != old {
		t.Fatalf("%+v is to be mended", base)
	}
	if err := s.update(func(tx Tx) error { return SetLog(tx, vm100, old, 1) }); !errors.Is(err, repo.ErrLocked) {
		t.Errorf("a log meanwhile: %v", err)
	}
	if err := s.commit(t, vm100, session, chunks{}); err != nil {
		t.Fatal(err)
	}
	rec, err := NeedSnapshot(s, vm100)
	if err != nil {
		t.Fatal(err)
	}
	m, err := rec.ParseManifest(vm100)
	if err != nil || m.Notes() != "before the upgrade" || m.VerifyState() != nil {
		t.Errorf("notes %q, verdict %v, %v", m.Notes(), m.VerifyState(), err)
	}
	if rec.Session != session || !rec.Protected || rec.Log != 99 {
		t.Errorf("%+v", rec)
	}
	if _, ok := s.Get(GoneKey(old)); !ok {
		t.Error("nobody takes the references of the old one off")
	}
}
