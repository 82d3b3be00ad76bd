package job

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// clone is the same library at another place: what happens to one does not to the
// other.
func (l *library) clone() *library {
	copyOf := func(c *cartridge) *cartridge {
		if c == nil {
			return nil
		}
		n := *c
		n.data, n.keys = slices.Clone(c.data), slices.Clone(c.keys) // blocks themselves are never changed
		return &n
	}
	n := &library{power: &power{left: -1}, from: l.from, drive: copyOf(l.drive)}
	for _, c := range l.slots {
		n.slots = append(n.slots, copyOf(c))
	}
	return n
}

// clone is the same site, with its state, at another place.
func (s *site) clone(t testing.TB) *site {
	t.Helper()
	n := &site{lib: s.lib.clone(), dir: t.TempDir(), now: s.now, pool: s.pool, logs: new([]string)}
	if err := os.CopyFS(filepath.Join(n.dir, "state"), os.DirFS(s.dir)); err != nil {
		t.Fatal(err)
	}
	n.dir = filepath.Join(n.dir, "state")
	n.reopen(t)
	return n
}

// forget loses everything but the tapes, and reads them in again.
func (s *site) forget(t testing.TB) {
	t.Helper()
	s.dir = t.TempDir()
	s.reopen(t)
	if err := s.Inventory(t.Context(), InventoryOptions{ReadAll: true, Catalog: true}); err != nil {
		s.showLogs(t)
		t.Fatal(err)
	}
}

// acknowledged is which snapshots the catalogs name.
func (s *site) acknowledged(t testing.TB) map[string]bool {
	t.Helper()
	inv, err := s.State.Inventory()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for m := range inv.Media() {
		if !m.InSet() {
			continue
		}
		list, err := s.State.Snapshots(m)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range list {
			names[n] = true
		}
	}
	return names
}

// The power fails at every call that changes a tape. What the catalogs named then
// comes back from the tapes alone, and the next job goes on.
func TestPowerCutAtEveryBlockLosesNothingThatWasAcknowledged(t *testing.T) {
	s := newSite(t, tapes("P", 8, 14)...)
	s.label(t)
	from := newStore(t)
	keep(t, from, day(0), content(12, 1), nil)
	s.backup(t, from, Backup{})
	keep(t, from, day(1), content(20, 2), nil)
	keep(t, from, day(2), content(20, 3), testKey(t))
	for n := 0; ; n++ {
		cut := s.clone(t)
		cut.lib.power.left = n
		_, err := cut.Backup(t.Context(), cut.pool, Backup{Store: "store1", Repo: from})
		done := err == nil
		if !done && !errors.Is(err, errPower) {
			cut.showLogs(t)
			t.Fatalf("after %d calls: %v", n, err)
		}
		cut.lib.restart()
		cut.reopen(t)
		acked := cut.acknowledged(t)
		if !acked["store1:"+day(0).Path()] {
			t.Fatalf("after %d calls: the first backup is forgotten", n)
		}

		// Nothing but the tapes is left.
		lost := cut.clone(t)
		lost.forget(t)
		back, stats := lost.restore(t)
		verified(t, back)
		got := listing(t, back)
		for name := range acked {
			if _, ok := got[name[len("store1:"):]]; !ok {
				t.Errorf("%s was acknowledged and does not come back", name)
			}
		}
		for name, what := range got {
			if what == "unfinished" {
				t.Errorf("%s is half there", name)
			}
		}
		if stats.Failed > 0 {
			t.Errorf("%+v", stats)
		}

		// The next job goes on.
		if stats := cut.backup(t, from, Backup{}); stats.Failed > 0 {
			t.Errorf("%+v", stats)
		}
		back, _ = cut.restore(t)
		equal(t, from, back)
		if again := cut.acknowledged(t); !slices.Equal(slices.Sorted(maps.Keys(again)), []string{
			"store1:" + day(0).Path(), "store1:" + day(1).Path(), "store1:" + day(2).Path(),
		}) {
			t.Errorf("the catalogs name %v", again)
		}
		if t.Failed() {
			cut.showLogs(t)
			t.Fatalf("power cut after %d calls", n)
		}
		if done {
			break
		}
	}
}

// A medium runs full at every block, with and without a warning.
func TestMediumThatRunsFullAtEveryBlock(t *testing.T) {
	from := newStore(t)
	keep(t, from, day(0), content(12, 1), nil)
	keep(t, from, day(1), content(20, 2), nil)
	keep(t, from, snapshot("ns/a/vm/5/2026-06-01T00:00:00Z"), content(6, 3), nil)
	for _, margin := range []int{1, 5, 0} { // blocks between warning and end; 0: no warning
		t.Run(fmt.Sprintf("margin=%d", margin), func(t *testing.T) {
			t.Parallel()
			for n := 3; n < 36; n++ {
				runsFull(t, from, n, margin)
			}
		})
	}
}

func runsFull(t *testing.T, from store, n, margin int) {
	list := tapes("F", 4, 60)
	list[0].capacity, list[0].early = n, max(0, n-margin)
	if margin == 0 {
		list[0].early = 0
	}
	s := newSite(t, list...)
	s.label(t)
	stats, err := s.Backup(t.Context(), s.pool, Backup{Store: "store1", Repo: from, Selection: Selection{MaxDepth: -1}})
	if errors.Is(err, errSmall) && n < 9 { // not one archive fits: that is told
		return
	}
	if err != nil || stats.Snapshots != 3 {
		s.showLogs(t)
		t.Fatalf("%d blocks, warning %d before: %v", n, margin, err)
	}
	to, back := s.restore(t)
	equal(t, from, to)
	if back.Failed > 0 {
		t.Errorf("%+v", back)
	}
	s.forget(t)
	to, _ = s.restore(t)
	equal(t, from, to)
	if t.Failed() {
		s.showLogs(t)
		t.Fatalf("%d blocks, warning %d before", n, margin)
	}
}
