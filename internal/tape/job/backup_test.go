package job

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/media"
)

func TestWhatWasWrittenToThreeTapesComesBack(t *testing.T) {
	s := newSite(t, tapes("A", 7, 30)...)
	s.label(t)
	from := newStore(t)
	for n := range 6 {
		keep(t, from, day(n), content(40, 1, 1, 1, uint64(n)), nil)
	}
	keep(t, from, snapshot("ct/7/2026-06-01T00:00:00Z"), content(9, 77), testKey(t))
	keep(t, from, snapshot("ns/a/ns/b/vm/1/2026-06-01T00:00:00Z"), content(9, 78), nil)
	stats := s.backup(t, from, Backup{Selection: Selection{MaxDepth: -1}})
	if stats.Snapshots != 8 || stats.Failed > 0 {
		t.Errorf("%+v", stats)
	}
	if again := s.backup(t, from, Backup{Selection: Selection{MaxDepth: -1}}); again.Snapshots != 0 || again.Skipped != 8 {
		t.Errorf("again: %+v", again)
	}
	to, back := s.restore(t)
	if back.Snapshots != 8 || back.Failed > 0 || back.Damaged > 0 {
		t.Errorf("%+v", back)
	}
	equal(t, from, to)
	s.showLogs(t)
}

// Two media sets of three media each; the repository is gone; everything comes
// back, also from nothing but the tapes.
func TestTwoMediaSetsComeBackAfterTheRepositoryIsGone(t *testing.T) {
	s := newSite(t, tapes("S", 20, 28)...)
	s.label(t)
	from := newStore(t)
	sets := map[string]bool{}
	for round := range 2 {
		for n := range 4 {
			keep(t, from, day(round*10+n), content(40, 1, uint64(round*10+n)), nil)
		}
		s.backup(t, from, Backup{ForceMediaSet: true})
	}
	inv, err := s.State.Inventory()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range inv.MediaSets() {
		list, err := inv.SetMedia(id)
		if err != nil || len(list) < 3 {
			t.Errorf("media set %s has %d media, %v", id, len(list), err)
		}
		sets[id.String()] = true
	}
	if len(sets) != 2 {
		t.Errorf("%d media sets", len(sets))
	}
	to, _ := s.restore(t)
	equal(t, from, to)
	s.forget(t)
	to, _ = s.restore(t)
	equal(t, from, to)
}

func TestEncryptedMediaSetNeedsItsKeyAndCarriesIt(t *testing.T) {
	s := newSite(t, tapes("K", 3, 40)...)
	s.pool.Key = chunkcrypt.Fingerprint{1, 2, 3}
	s.KeyFile = func(f chunkcrypt.Fingerprint) ([]byte, error) { return []byte(`{"kdf":null}`), nil }
	s.label(t)
	from := newStore(t)
	keep(t, from, day(0), content(20, 1), nil)
	s.backup(t, from, Backup{})
	for _, c := range append(s.lib.slots, s.lib.drive) {
		if c == nil || len(c.data) < 5 {
			continue
		}
		for i, b := range c.data {
			if b != nil && (c.keys[i] != "") != (i > 3) { // two labels, each with its filemark
				t.Errorf("object %d: key %q", i, c.keys[i])
			}
		}
	}
	l, err := s.ReadLabel(t.Context(), false)
	if err != nil || !strings.Contains(string(l.Key), `"kdf": null`) || l.Set.Key != s.pool.Key {
		t.Errorf("%+v, %v", l, err)
	}
	to, _ := s.restore(t)
	equal(t, from, to)
	// Another key means another media set.
	s.pool.Key = chunkcrypt.Fingerprint{}
	keep(t, from, day(1), content(4, 2), nil)
	s.backup(t, from, Backup{})
	inv, err := s.State.Inventory()
	if err != nil || len(inv.MediaSets()) != 2 {
		t.Errorf("%v, %v", inv.MediaSets(), err)
	}
}

func TestSelection(t *testing.T) {
	from := newStore(t)
	for _, n := range []string{
		"vm/100/2026-06-01T00:00:00Z", "vm/100/2026-06-02T00:00:00Z", "ct/7/2026-06-01T00:00:00Z",
		"ns/a/vm/1/2026-06-01T00:00:00Z", "ns/a/ns/b/vm/1/2026-06-01T00:00:00Z",
	} {
		keep(t, from, snapshot(n), content(2, 1), nil)
	}
	for _, tc := range []struct {
		name string
		sel  Selection
		want string
	}{
		{"root", Selection{}, "ct/7/2026-06-01T00:00:00Z vm/100/2026-06-01T00:00:00Z vm/100/2026-06-02T00:00:00Z"},
		{"latest", Selection{LatestOnly: true}, "ct/7/2026-06-01T00:00:00Z vm/100/2026-06-02T00:00:00Z"},
		{"groups", Selection{Groups: func(g names.Group) bool { return g.Type == names.CT }}, "ct/7/2026-06-01T00:00:00Z"},
		{"namespace", Selection{Namespace: "a"}, "ns/a/vm/1/2026-06-01T00:00:00Z"},
		{"depth", Selection{Namespace: "a", MaxDepth: 1}, "ns/a/vm/1/2026-06-01T00:00:00Z ns/a/ns/b/vm/1/2026-06-01T00:00:00Z"},
		{"all below", Selection{MaxDepth: -1, LatestOnly: true}, "ct/7/2026-06-01T00:00:00Z vm/100/2026-06-02T00:00:00Z ns/a/vm/1/2026-06-01T00:00:00Z ns/a/ns/b/vm/1/2026-06-01T00:00:00Z"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			groups, err := tc.sel.groups(t.Context(), from)
			for _, g := range groups {
				list, lerr := tc.sel.snapshots(t.Context(), from, g)
				err = errors.Join(err, lerr)
				for _, s := range list {
					got = append(got, s.Path())
				}
			}
			if err != nil || strings.Join(got, " ") != tc.want {
				t.Errorf("%s, %v", strings.Join(got, " "), err)
			}
		})
	}
}

func TestSnapshotThatCannotBeReadIsLeftOutAndTheOthersAreWritten(t *testing.T) {
	s := newSite(t, tapes("D", 2, 60)...)
	s.label(t)
	from := newStore(t)
	for n := range 3 {
		keep(t, from, day(n), content(10, uint64(n)), nil)
	}
	spoilChunk(t, from, content(10, 1)[3*chunkSize:4*chunkSize])
	stats := s.backup(t, from, Backup{})
	if stats.Snapshots != 2 || stats.Failed != 1 {
		t.Errorf("%+v", stats)
	}
	to, _ := s.restore(t)
	got := listing(t, to)
	if len(got) != 2 || got[day(1).Path()] != "" {
		t.Errorf("%v", got)
	}
	verified(t, to)
}

func TestDamagedChunkOnTapeCostsOnlyItsSnapshots(t *testing.T) {
	s := newSite(t, tapes("D", 2, 80)...)
	s.label(t)
	from := newStore(t)
	for n := range 3 {
		keep(t, from, day(n), content(10, uint64(n)), nil)
	}
	s.backup(t, from, Backup{})
	s.lib.drive.damaged = map[int]bool{5: true} // in the first chunk archive
	to, stats := s.restore(t)
	got := listing(t, to)
	if len(got) != 2 || got[day(0).Path()] != "" || stats.Damaged == 0 || stats.Failed != 1 {
		t.Errorf("%v, %+v", got, stats)
	}
	verified(t, to)
}

func TestMediumThatSomebodyElseWroteIsNotOverwritten(t *testing.T) {
	s := newSite(t, tapes("X", 2, 60)...)
	s.label(t)
	other := s.clone(t) // another server with the same media
	from := newStore(t)
	keep(t, from, day(0), content(10, 1), nil)
	other.backup(t, from, Backup{})
	s.lib = other.lib
	s.reopen(t)
	keep(t, from, day(1), content(10, 2), nil)
	s.backup(t, from, Backup{})
	inv, err := s.State.Inventory()
	if err != nil || len(inv.MediaSets()) != 2 {
		t.Errorf("%v, %v", inv.MediaSets(), err)
	}
	s.forget(t)
	to, _ := s.restore(t)
	equal(t, from, to)
	s.showLogs(t)
}

func TestMediumWithCriticalAlertsIsMarkedAsDamaged(t *testing.T) {
	s := newSite(t, tapes("X", 2, 60)...)
	s.label(t)
	from := newStore(t)
	keep(t, from, day(0), content(10, 1), nil)
	s.lib.alerts = 1 << (0x04 - 1)
	_, err := s.Backup(t.Context(), s.pool, Backup{Store: "store1", Repo: from})
	if err == nil || !strings.Contains(err.Error(), "media failure") {
		t.Errorf("%v", err)
	}
	inv, err := s.State.Inventory()
	if err != nil {
		t.Fatal(err)
	}
	m, err := inv.FindLabel("X00001L8")
	if err != nil || m.Status != media.Damaged {
		t.Errorf("%+v, %v", m, err)
	}
	s.lib.alerts = 1 << (0x01 - 1) // a warning
	s.backup(t, from, Backup{})
}

func TestJobsOnOneMediaSetDoNotMix(t *testing.T) {
	s := newSite(t, tapes("X", 2, 60)...)
	s.label(t)
	from := newStore(t)
	keep(t, from, day(0), content(10, 1), nil)
	s.backup(t, from, Backup{})
	inv, err := s.State.Inventory()
	if err != nil {
		t.Fatal(err)
	}
	set := inv.MediaSets()[0]
	unlock, err := s.State.LockSet(t.Context(), set)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unlock() }()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Backup(ctx, s.pool, Backup{Store: "store1", Repo: from}); !errors.Is(err, confdir.ErrBusy) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("backup: %v", err)
	}
	if _, err := s.RestoreAll(ctx, Restore{MediaSet: set}); !errors.Is(err, confdir.ErrBusy) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("restore: %v", err)
	}
	d, err := s.lib.openDrive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Label(t.Context(), "NEW001", ""); !errors.Is(err, tape.ErrBusy) {
		t.Errorf("label: %v", err)
	}
	_ = d.Close()
}

func TestMissingMediumIsAskedForOnceForEachReason(t *testing.T) {
	s := newSite(t, tapes("W", 1, 60)...)
	s.label(t)
	from := newStore(t)
	keep(t, from, day(0), content(10, 1), nil)
	s.backup(t, from, Backup{})
	if err := s.Station.Unload(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	gone := s.lib.slots[0]
	s.lib.slots[0] = nil
	tries := 0
	s.Station.Sleep = func(ctx context.Context, _ time.Duration) error {
		switch tries++; tries {
		case 3:
			s.lib.slots[len(s.lib.slots)-1] = gone // the slot for import
		case 5:
			s.lib.slots[len(s.lib.slots)-1], s.lib.slots[0] = nil, gone
		case 9:
			return errNobody
		}
		return nil
	}
	*s.logs = nil
	to, _ := s.restore(t)
	equal(t, from, to)
	asked := 0
	for _, l := range *s.logs {
		if strings.HasPrefix(l, "ask: ") {
			asked++
		}
	}
	if asked != 2 || tries != 5 {
		t.Errorf("asked %d times in %d attempts", asked, tries)
	}
}

func TestAnotherMediumThanIsWantedIsNamedAndLeftAlone(t *testing.T) {
	s := newSite(t, tapes("H", 2, 60)...)
	s.label(t)
	from := newStore(t)
	keep(t, from, day(0), content(10, 1), nil)
	if err := s.Station.Unload(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	wanted, other := s.lib.slots[0], s.lib.slots[1]
	s.Station.Changer, s.lib.drive, s.lib.slots[1] = nil, other, nil // people change media from now on
	was := len(other.data)
	s.Station.Sleep = func(context.Context, time.Duration) error {
		s.lib.drive = wanted
		return nil
	}
	*s.logs = nil
	s.backup(t, from, Backup{})
	if len(other.data) != was || len(wanted.data) <= was {
		t.Errorf("%d objects are on the other medium, %d on the wanted one", len(other.data), len(wanted.data))
	}
	told := strings.Join(*s.logs, "\n")
	if !strings.Contains(told, "found medium "+other.barcode) || !strings.Contains(told, "ask: medium "+wanted.barcode+` is wanted in drive "drive0"`) {
		t.Errorf("people were told:\n%s", told)
	}
}

func TestExportMovesTheWholeSet(t *testing.T) {
	s := newSite(t, tapes("E", 2, 60)...)
	s.label(t)
	from := newStore(t)
	keep(t, from, day(0), content(10, 1), nil)
	s.backup(t, from, Backup{ExportSet: true})
	if c := s.lib.slots[len(s.lib.slots)-1]; c == nil || c.barcode != "E00001L8" {
		t.Errorf("%+v is in the slot for export", c)
	}
}

func spoilChunk(t *testing.T, s store, plain []byte) {
	t.Helper()
	err := s.disk.Corrupt(names.ChunkPath(digest.Of(plain)), func(b []byte) []byte {
		b = []byte(string(b))
		b[len(b)-1] ^= 1
		return b
	})
	if err != nil {
		t.Fatal(err)
	}
}
