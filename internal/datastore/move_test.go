package datastore_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest/contract"
)

// moving is a store with namespaces "a", "a/b" and "c", and a guest 100 with two
// snapshots in the root namespace.
type moving struct {
	*datastore.Store
	t     *testing.T
	tt    *tester
	w     *world
	rng   *rand.Rand
	group names.Group
}

func newMoving(t *testing.T) *moving {
	t.Helper()
	tt := newTester(t)
	w := newWorld(newDisk(t))
	s, err := tt.open(w.disk)
	if err != nil {
		t.Fatal(err)
	}
	m := &moving{s, t, tt, w, rand.New(rand.NewPCG(5, 6)), names.Group{Type: names.VM, ID: "100"}}
	for _, ns := range []names.Namespace{"a", "a/b", "c"} {
		m.must(s.CreateNamespace(t.Context(), ns))
	}
	m.backup(names.Root)
	m.backup(names.Root)
	return m
}

func (m *moving) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *moving) backup(ns names.Namespace) names.Snapshot {
	m.t.Helper()
	n := snapshotAt("100", m.w.disk.Now())
	n.NS = ns
	c := contract.Random(m.rng, 4)
	m.must(m.tt.backup(m.t.Context(), m.Store, n, c.Image, c.Conf))
	m.w.must[n] = c
	m.w.disk.Advance(time.Hour)
	return n
}

// places counts the snapshots of each namespace, after all were restored where
// they should be.
func (m *moving) places() string {
	m.t.Helper()
	_, listed, err := everything(m.t.Context(), m.Store)
	m.must(err)
	count := map[names.Namespace]int{}
	for n := range listed {
		count[n.NS]++
	}
	var all []string
	for ns, k := range count {
		all = append(all, fmt.Sprintf("%s=%d", ns, k))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func (m *moving) check(want string) {
	m.t.Helper()
	if got := m.places(); got != want {
		m.t.Fatalf("snapshots are in %q, want %q", got, want)
	}
	_, err := m.tt.checkSnapshots(m.Store, m.w)
	m.must(err)
}

func TestGroupMovesWithOwnerNotesAndProtection(t *testing.T) {
	m := newMoving(t)
	ctx := t.Context()
	infos, err := m.Snapshots(ctx, names.Root, nil)
	m.must(err)
	m.must(m.SetGroupNotes(ctx, names.Root, m.group, "the web server"))
	m.must(m.SetOwner(ctx, names.Root, m.group, "ann@pbs"))
	m.must(m.SetProtected(ctx, infos[0].Snapshot, true))
	m.w.move(infos[0].Snapshot, "a/b")
	m.must(m.MoveGroup(ctx, names.Root, m.group, "a/b", false))
	m.check("a/b=2")
	groups, err := m.Groups(ctx, "a/b")
	m.must(err)
	if g := groups[0]; g.Owner != "ann@pbs" || g.Comment != "the web server" || g.Count != 2 {
		t.Errorf("%+v", g)
	}
	infos, err = m.Snapshots(ctx, "a/b", nil)
	m.must(err)
	if !infos[0].Protected || infos[1].Protected {
		t.Error("the protection did not move along")
	}
	if groups, err := m.Groups(ctx, names.Root); err != nil || len(groups) != 0 {
		t.Errorf("%v is left, %v", groups, err)
	}
	if err := m.MoveGroup(ctx, names.Root, m.group, "a", true); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("a second time: %v", err)
	}
}

func TestGroupJoinsAnOlderOneOfTheSameOwnerOnly(t *testing.T) {
	m := newMoving(t)
	ctx := t.Context()
	m.w.move(snapshotAt("100", m.w.disk.Now()), "a")
	m.must(m.MoveGroup(ctx, names.Root, m.group, "a", false))
	n := m.backup(names.Root)
	m.must(m.SetGroupNotes(ctx, names.Root, m.group, "new"))
	m.must(m.SetGroupNotes(ctx, "a", m.group, "old"))
	for name, tc := range map[string]struct {
		try  func() error
		want error
	}{
		"without leave to join":    {func() error { return m.MoveGroup(ctx, names.Root, m.group, "a", false) }, repo.ErrExists},
		"the older to the younger": {func() error { return m.MoveGroup(ctx, "a", m.group, names.Root, true) }, repo.ErrExists},
		"to nowhere":               {func() error { return m.MoveGroup(ctx, names.Root, m.group, "nowhere", true) }, repo.ErrNotFound},
		"of another owner": {func() error {
			m.must(m.SetOwner(ctx, "a", m.group, "bob@pbs"))
			err := m.MoveGroup(ctx, names.Root, m.group, "a", true)
			m.must(m.SetOwner(ctx, "a", m.group, datastore.DefaultOwner))
			return err
		}, repo.ErrOwner},
	} {
		if err := tc.try(); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := m.MoveGroup(ctx, "a", m.group, "a", true); err == nil {
		t.Error("a group moved to where it is")
	}
	m.check("=1 a=2")
	m.w.move(n, "a")
	m.must(m.MoveGroup(ctx, names.Root, m.group, "a", true))
	m.check("a=3")
	if notes, err := m.GroupNotes(ctx, "a", m.group); notes != "old" || err != nil {
		t.Errorf("notes %q, %v", notes, err)
	}
}

func TestWhatIsInUseDoesNotMove(t *testing.T) {
	m := newMoving(t)
	ctx := t.Context()
	infos, err := m.Snapshots(ctx, names.Root, nil)
	m.must(err)
	reader, err := m.Open(ctx, infos[0].Snapshot)
	m.must(err)
	move := func() error { return m.MoveGroup(ctx, names.Root, m.group, "a", true) }
	if err := move(); !errors.Is(err, repo.ErrLocked) {
		t.Errorf("while it is read: %v", err)
	}
	m.must(reader.Close())
	ses, err := m.Begin(ctx, repo.Begin{Snapshot: snapshotAt("100", m.w.disk.Now())})
	m.must(err)
	if err := move(); !errors.Is(err, repo.ErrLocked) {
		t.Errorf("during a backup: %v", err)
	}
	m.must(ses.Abort())
	m.check("=2")
	m.w.move(infos[0].Snapshot, "a")
	m.must(move())
	m.check("a=2")
}

func TestLeftoversOfUnfinishedBackupsAreNotInTheWay(t *testing.T) {
	m := newMoving(t)
	infos, err := m.Snapshots(t.Context(), names.Root, nil)
	m.must(err)
	first := infos[0].Snapshot
	left := []names.Snapshot{m.in(first, "a"), {NS: "a", Group: m.group, Time: first.Time + 1e7}, {Group: m.group, Time: first.Time - 1e7}}
	for _, n := range left {
		for _, dir := range []string{path.Dir(n.GroupPath()), n.GroupPath(), n.Path()} {
			if err := m.w.disk.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				t.Fatal(err)
			}
		}
		f, err := m.w.disk.Create(n.Path()+"/disk.img.tmp_fidx", 0o644)
		m.must(err)
		m.must(f.Close())
	}
	m.w.move(first, "a")
	m.must(m.MoveGroup(t.Context(), names.Root, m.group, "a", false))
	m.check("a=2")
}

// A collection that looks for snapshots in one namespace after the other could
// miss one that moves between them.
func TestNothingMovesDuringACollection(t *testing.T) {
	m := newMoving(t)
	var during error
	_, err := m.GC(t.Context(), repo.GCOptions{SkipAtimeCheck: true, Progress: func(repo.GCProgress) {
		during = m.MoveGroup(context.Background(), names.Root, m.group, "a", true)
	}})
	m.must(err)
	if !errors.Is(during, repo.ErrLocked) {
		t.Errorf("err = %v", during)
	}
	m.check("=2")
}

func TestNamespaceMovesWithThoseBelow(t *testing.T) {
	m := newMoving(t)
	ctx := t.Context()
	m.w.move(snapshotAt("100", m.w.disk.Now()), "a")
	m.must(m.MoveGroup(ctx, names.Root, m.group, "a", true))
	m.check("a=2")
	m.w.move(m.backup(names.Root), "a/b")
	m.must(m.MoveGroup(ctx, names.Root, m.group, "a/b", true))
	m.check("a/b=1 a=2")
	for name, tc := range map[string]struct {
		from, to names.Namespace
	}{
		"the root": {names.Root, "c"}, "into itself": {"a", "a/b/x"}, "to where it is": {"a", "a"}, "below nothing": {"a", "x/y"}, "nothing": {"x", "c"},
		"too deep": {"a", "c/1/2/3/4/5/6"},
	} {
		if err := m.MoveNamespace(ctx, tc.from, repo.MoveNamespaceOptions{To: tc.to, Depth: -1}); err == nil {
			t.Errorf("%s was moved", name)
		}
	}
	renamed := func(from, to names.Namespace) {
		for n := range m.w.must {
			if from.Contains(n.NS) && !strings.HasPrefix(string(n.NS), string(to)) {
				moved := n
				moved.NS = names.Namespace(strings.Replace(string(n.NS), string(from), string(to), 1))
				m.w.moves[n] = moved
			}
		}
	}
	renamed("a", "c/d")
	m.must(m.MoveNamespace(ctx, "a", repo.MoveNamespaceOptions{To: "c/d", Depth: -1}))
	m.check("c/d/b=1 c/d=2")
	if all, err := m.Namespaces(ctx, names.Root); err != nil || !slices.Equal(all, []names.Namespace{"c", "c/d", "c/d/b"}) {
		t.Errorf("namespaces are %v, %v", all, err)
	}
	// Not those below, and the source stays.
	m.w.moves[m.one("c/d/b")] = m.in(m.one("c/d/b"), "e")
	m.must(m.MoveNamespace(ctx, "c/d/b", repo.MoveNamespaceOptions{To: "e", Depth: 0, KeepSource: true}))
	m.check("c/d=2 e=1")
	m.must(m.CreateNamespace(ctx, "c/d/b/x"))
	for _, n := range m.all("c/d") {
		m.w.moves[n] = m.in(n, "f")
	}
	m.must(m.MoveNamespace(ctx, "c/d", repo.MoveNamespaceOptions{To: "f", Depth: 0}))
	m.check("e=1 f=2")
	if all, err := m.Namespaces(ctx, names.Root); err != nil || !slices.Equal(all, []names.Namespace{"c", "c/d", "c/d/b", "c/d/b/x", "e", "f"}) {
		t.Errorf("namespaces are %v, %v", all, err)
	}
	// What cannot be moved stays, and the rest moves.
	err := m.MoveNamespace(ctx, "f", repo.MoveNamespaceOptions{To: "e", Depth: -1})
	if !errors.Is(err, repo.ErrExists) || !strings.Contains(err.Error(), "vm/100 in namespace f") {
		t.Errorf("err = %v", err)
	}
	m.check("e=1 f=2")
}

func (m *moving) all(ns names.Namespace) (all []names.Snapshot) {
	for n := range m.w.must {
		if n.NS == ns {
			all = append(all, n)
		}
	}
	return all
}

func (m *moving) one(ns names.Namespace) names.Snapshot { return m.all(ns)[0] }

func (m *moving) in(n names.Snapshot, ns names.Namespace) names.Snapshot {
	n.NS = ns
	return n
}
