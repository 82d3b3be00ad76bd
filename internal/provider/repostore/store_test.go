package repostore_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/holdfast-backup/holdfast/internal/provider/repostore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/retention"
)

func newStore(t *testing.T) *repostore.Store {
	t.Helper()
	return repostore.New(newRepository(t), repostore.Options{Origin: "store@host", Owner: "root@pam", Location: time.UTC})
}

// vm is a machine with one disk of zeros.
func vm(mode provider.Mode, base provider.Archive) provider.VM {
	return provider.VM{
		Configs: provider.Configs{Guest: []byte("x")},
		Volumes: []provider.Volume{{Device: "drive-scsi0", Image: zeros(8 * mib), Mode: mode}},
		Base:    base,
		Seal:    func(context.Context) error { return nil },
	}
}

func store(t *testing.T, s *repostore.Store, g provider.Guest, at int64, mode provider.Mode, base provider.Archive) provider.Archive {
	t.Helper()
	a := s.Archive(g, time.Unix(at, 0))
	if _, err := s.BackupVM(t.Context(), a, vm(mode, base)); err != nil {
		t.Fatal(err)
	}
	return a
}

// Between the question and the backup somebody may have made or removed one.
func TestBaseThatIsNotTheNewestIsRefused(t *testing.T) {
	s := newStore(t)
	first := store(t, s, machine, 100, provider.ModeNew, provider.Archive{})
	second := store(t, s, machine, 200, provider.ModeNew, provider.Archive{})
	third := s.Archive(machine, time.Unix(300, 0))
	for _, base := range []provider.Archive{first, {}, s.Archive(machine, time.Unix(250, 0))} {
		if _, err := s.BackupVM(t.Context(), third, vm(provider.ModeReuse, base)); !errors.Is(err, guest.ErrBase) {
			t.Errorf("base %q: %v", base.Name, err)
		}
	}
	store(t, s, machine, 300, provider.ModeReuse, second)
}

func TestErrorOfTheSealStoresNothing(t *testing.T) {
	s := newStore(t)
	broken := errors.New("no room for notes")
	v := vm(provider.ModeNew, provider.Archive{})
	v.Seal = func(context.Context) error { return broken }
	a := s.Archive(machine, time.Unix(100, 0))
	if _, err := s.BackupVM(t.Context(), a, v); !errors.Is(err, broken) {
		t.Fatalf("err = %v", err)
	}
	if _, err := s.Entry(t.Context(), a); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("err = %v", err)
	}
}

func TestDiskWithoutBitmapIsNoBase(t *testing.T) {
	s := newStore(t)
	a := store(t, s, machine, 100, provider.ModeNone, provider.Archive{})
	if usable, err := s.Reusable(t.Context(), a, map[string]int64{"drive-scsi0": 8 * mib}); err != nil || usable["drive-scsi0"] {
		t.Errorf("%v, %v", usable, err)
	}
	a = store(t, s, machine, 200, provider.ModeNew, provider.Archive{})
	for size, want := range map[int64]bool{8 * mib: true, 8*mib + 512: false} {
		if usable, err := s.Reusable(t.Context(), a, map[string]int64{"drive-scsi0": size, "drive-scsi1": size}); err != nil || usable["drive-scsi0"] != want || usable["drive-scsi1"] {
			t.Errorf("%d bytes: %v, %v", size, usable, err)
		}
	}
}

func TestNamesAreThoseOfSnapshotsOfGuests(t *testing.T) {
	s := newStore(t)
	for _, g := range []provider.Guest{machine, {Kind: provider.LXC, ID: 999_999_999}} {
		want := s.Archive(g, time.Unix(1_767_322_800, 0))
		if got, err := s.Parse(want.Name); err != nil || got != want {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	}
	for _, name := range []string{
		"", "vm/100", "host/100/2026-01-02T03:00:00Z", "vm/web/2026-01-02T03:00:00Z", "vm/0/2026-01-02T03:00:00Z", "vm/007/2026-01-02T03:00:00Z",
		"ns/a/vm/100/2026-01-02T03:00:00Z", "vm/1000000000/2026-01-02T03:00:00Z", "vm/100/2026-01-02T03:00:60Z", "vm/../2026-01-02T03:00:00Z",
	} {
		if a, err := s.Parse(name); !errors.Is(err, names.ErrName) {
			t.Errorf("%q: %+v, %v", name, a, err)
		}
	}
}

// Of others in the namespace nothing is listed and nothing pruned.
func TestPruningLeavesOtherGroupsAlone(t *testing.T) {
	s := newStore(t)
	other := provider.Guest{Kind: provider.QEMU, ID: 7}
	for at := range int64(4) {
		store(t, s, machine, 100+at, provider.ModeNone, provider.Archive{})
		store(t, s, other, 100+at, provider.ModeNone, provider.Archive{})
	}
	keep := retention.Options{Last: 1}
	dry, err := s.Prune(t.Context(), provider.PruneOptions{Keep: keep, DryRun: true})
	if err != nil || len(dry) != 8 {
		t.Fatalf("%d verdicts, %v", len(dry), err)
	}
	if pruned, err := s.Prune(t.Context(), provider.PruneOptions{Kind: provider.LXC, Keep: keep}); err != nil || len(pruned) != 0 {
		t.Errorf("containers: %v, %v", pruned, err)
	}
	if _, err := s.Prune(t.Context(), provider.PruneOptions{Guest: &machine, Keep: keep}); err != nil {
		t.Fatal(err)
	}
	for g, want := range map[provider.Guest]int{machine: 1, other: 4} {
		if list, err := s.List(t.Context(), &g); err != nil || len(list) != want {
			t.Errorf("%v: %d archives, %v", g, len(list), err)
		}
	}
	if list, err := s.List(t.Context(), &provider.Guest{Kind: provider.LXC, ID: 1}); err != nil || len(list) != 0 {
		t.Errorf("a guest without backups: %v, %v", list, err)
	}
}

func TestLogIsKeptBesideTheSnapshotOnce(t *testing.T) {
	s := newStore(t)
	if err := s.PutLog(t.Context(), s.Archive(machine, time.Unix(5, 0)), []byte("failed")); err != nil {
		t.Errorf("log of a failed task: %v", err)
	}
	a := store(t, s, machine, 100, provider.ModeNone, provider.Archive{})
	for range 2 {
		if err := s.PutLog(t.Context(), a, []byte(strings.Repeat("line\n", 1000))); err != nil {
			t.Fatal(err)
		}
	}
}
