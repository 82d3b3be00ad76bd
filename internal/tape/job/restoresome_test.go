package job

import (
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// written is a site with three media of one set, and what is on them.
func written(t *testing.T) (*site, store, Restore, *Target) {
	t.Helper()
	s := newSite(t, tapes("R", 8, 26)...)
	s.label(t)
	from := newStore(t)
	for n := range 4 {
		keep(t, from, day(n), content(30, 1, 1, 1, 1, 1, 1, uint64(n)), nil)
	}
	keep(t, from, snapshot("ns/a/vm/5/2026-06-01T00:00:00Z"), content(6, 31), nil)
	keep(t, from, snapshot("ns/a/ns/b/vm/5/2026-06-01T00:00:00Z"), content(6, 32), testKey(t))
	s.backup(t, from, Backup{Selection: Selection{MaxDepth: -1}})
	inv, err := s.State.Inventory()
	if err != nil {
		t.Fatal(err)
	}
	target := &Target{Repo: newStore(t)}
	return s, from, Restore{MediaSet: inv.MediaSets()[0], Target: func(store string) *Target {
		if store != "store1" {
			return nil
		}
		return target
	}}, target
}

func TestSingleSnapshotsComeBack(t *testing.T) {
	s, from, r, target := written(t)
	for _, n := range []names.Snapshot{day(2), snapshot("ns/a/ns/b/vm/5/2026-06-01T00:00:00Z"), day(0)} {
		stats, err := s.RestoreSome(t.Context(), r, Some{Snapshots: []Choice{{"store1", n}}})
		if err != nil || stats.Snapshots != 1 {
			s.showLogs(t)
			t.Fatalf("%s: %+v, %v", n, stats, err)
		}
	}
	want, got := listing(t, from), listing(t, target.Repo)
	if len(got) != 3 {
		t.Errorf("%v", got)
	}
	for name, what := range got {
		if want[name] != what {
			t.Errorf("%s is %q", name, what)
		}
	}
	verified(t, target.Repo)
	stats, err := s.RestoreSome(t.Context(), r, Some{Snapshots: []Choice{{"store1", day(0)}}})
	if err != nil || stats.Skipped != 1 {
		t.Errorf("again: %+v, %v", stats, err)
	}
	if _, err := s.RestoreSome(t.Context(), r, Some{Snapshots: []Choice{{"store1", day(9)}}}); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("one that is not there: %v", err)
	}
}

func TestNamespaceComesBackIntoAnother(t *testing.T) {
	s, _, r, target := written(t)
	m, err := ParseNamespaceMap("store=store1,source=a,target=x/y")
	if err != nil {
		t.Fatal(err)
	}
	stats, err := s.RestoreSome(t.Context(), r, Some{Namespaces: []NamespaceMap{m}})
	if err != nil || stats.Snapshots != 2 {
		s.showLogs(t)
		t.Fatalf("%+v, %v", stats, err)
	}
	got := listing(t, target.Repo)
	for _, want := range []string{"ns/x/ns/y/vm/5/2026-06-01T00:00:00Z", "ns/x/ns/y/ns/b/vm/5/2026-06-01T00:00:00Z"} {
		if got[want] == "" {
			t.Errorf("%s is missing in %v", want, got)
		}
	}
	verified(t, target.Repo)
}

func TestSingleSnapshotWhoseChunksAreDamagedStaysAway(t *testing.T) {
	s, _, r, target := written(t)
	for _, c := range append(s.lib.slots, s.lib.drive) {
		if c != nil && strings.HasPrefix(c.barcode, "R00001") {
			c.damaged = map[int]bool{6: true}
		}
	}
	stats, err := s.RestoreSome(t.Context(), r, Some{Snapshots: []Choice{{"store1", day(0)}}})
	if err != nil || stats.Snapshots != 0 || stats.Failed != 1 || stats.Damaged == 0 {
		t.Errorf("%+v, %v", stats, err)
	}
	if got := listing(t, target.Repo); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

func TestStoreMap(t *testing.T) {
	for _, tc := range []struct{ text, store, want string }{
		{"tank", "a", "tank"},
		{"aaa=bbb", "aaa", "bbb"},
		{"aaa=bbb", "ccc", ""},
		{"aaa=bbb,rest", "ccc", "rest"},
		{"rest,aaa=bbb", "aaa", "bbb"},
	} {
		m, err := ParseStoreMap(tc.text)
		if err != nil {
			t.Errorf("%s: %v", tc.text, err)
		}
		if got, ok := m.Target(tc.store); got != tc.want || ok != (tc.want != "") {
			t.Errorf("%s: %s goes to %q", tc.text, tc.store, got)
		}
	}
	for _, text := range []string{"", "aaa,bbb", "aaa=bbb,aaa=ccc", "=bbb", "aaa=", "a/b", "aaa=bbb=ccc"} {
		if _, err := ParseStoreMap(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func TestNamespaceMap(t *testing.T) {
	for _, tc := range []struct{ text, store, ns, want string }{
		{"store=sss,source=a,target=b", "sss", "a", "b"},
		{"store=sss,source=a,target=b", "sss", "a/c/d", "b/c/d"},
		{"store=sss,source=a", "sss", "a/c", "c"},
		{"store=sss,target=b", "sss", "a", "b/a"},
		{"sss", "sss", "a", "a"},
		{"store=sss,source=a,target=b,max-depth=1", "sss", "a/c/d", "-"},
		{"store=sss,source=a,target=b", "sss", "ab", "-"},
		{"store=sss,source=a,target=b", "other", "a", "-"},
	} {
		m, err := ParseNamespaceMap(tc.text)
		if err != nil {
			t.Errorf("%s: %v", tc.text, err)
			continue
		}
		to, ok, err := m.Map(tc.store, names.Namespace(tc.ns))
		if err != nil || ok != (tc.want != "-") || ok && to.String() != tc.want {
			t.Errorf("%s: %s of %s goes to %q, %v, %v", tc.text, tc.ns, tc.store, to, ok, err)
		}
	}
	for _, text := range []string{"", "source=a", "store=sss,source=a//b", "store=sss,max-depth=8", "store=sss,max-depth=-1", "store=sss,depth=1", "store=sss/t"} {
		if _, err := ParseNamespaceMap(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}
