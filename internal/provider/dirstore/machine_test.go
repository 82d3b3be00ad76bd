package dirstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/holdfast-backup/holdfast/internal/provider/dirstore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/vfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/faultfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

// open opens a storage in a directory of this machine.
func open(t *testing.T, dir string, o dirstore.Options) *dirstore.Store {
	t.Helper()
	s, err := dirstore.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// judge lets QEMU check every disk of a backup, and compare it.
func judge(t *testing.T, dir string, a provider.Archive, want content) {
	t.Helper()
	for device, b := range want {
		path := filepath.Join(dir, a.Name, device+".qcow2")
		if out := must(t, "qemu-img", "check", "-f", "qcow2", path); !strings.Contains(out, "No errors") {
			t.Fatalf("qemu-img check %s: %s", path, out)
		}
		raw := filepath.Join(t.TempDir(), "raw")
		if err := os.WriteFile(raw, append(b, make([]byte, -len(b)&511)...), 0o600); err != nil {
			t.Fatal(err)
		}
		must(t, "qemu-img", "compare", "-f", "qcow2", "-F", "raw", path, raw)
	}
}

var incremental = dirstore.Options{Incremental: true}

func TestBackupsAreForQEMUWhatTheGuestHad(t *testing.T) { whatTheGuestHad(t, incremental) }

func TestCompressedBackupsAreForQEMUWhatTheGuestHad(t *testing.T) {
	whatTheGuestHad(t, dirstore.Options{Incremental: true, Compress: true})
}

func whatTheGuestHad(t *testing.T, o dirstore.Options) {
	t.Helper()
	dir := t.TempDir()
	s := open(t, dir, o)
	r := rand.New(rand.NewPCG(1, 2))
	m := newMachine(r, 100, 3<<20, 2<<20+513)
	all := map[provider.Archive]content{}
	var order []provider.Archive
	for range 5 {
		a, want, err := m.backup(s)
		if err != nil {
			t.Fatal(err)
		}
		all[a], order = want, append(order, a)
		m.change(r, 3)
	}
	list, err := s.List(t.Context(), &m.guest)
	if err != nil {
		t.Fatal(err)
	}
	for n, e := range list {
		parent := ""
		if n > 0 {
			parent = order[n-1].Name
		}
		if e.Archive != order[n] || e.Parent != parent || e.Format != "qcow2" || e.Size == 0 {
			t.Errorf("entry %d: %+v", n, e)
		}
		if n > 0 && e.Size > list[0].Size {
			t.Errorf("increment %d has %d bytes, the first backup %d", n, e.Size, list[0].Size)
		}
	}
	for a, want := range all {
		judge(t, dir, a, want)
	}
	info, err := os.ReadFile(filepath.Join(dir, "100/previous-info"))
	if err != nil || string(info) != fmt.Sprintf("%d %d\n", order[0].Start, order[4].Start) {
		t.Errorf("previous-info: %q, %v", info, err)
	}
	for n := range order { // each position, the first, ones in the middle, and the last
		victim := order[(n*2)%len(order)]
		if err := s.Free(t.Context(), victim); err != nil {
			t.Fatal(err)
		}
		delete(all, victim)
		if len(names(t, s)) != len(all) {
			t.Fatalf("listed: %q", names(t, s))
		}
		for a, want := range all {
			judge(t, dir, a, want)
			got, err := restore(s, a)
			if err == nil {
				err = same(got, want)
			}
			if err != nil {
				t.Fatalf("%s after %s was removed: %v", a.Name, victim.Name, err)
			}
		}
	}
}

func TestAStorageCanBeMoved(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, incremental)
	r := rand.New(rand.NewPCG(5, 2))
	m := newMachine(r, 100, 1<<20)
	if _, _, err := m.backup(s); err != nil {
		t.Fatal(err)
	}
	m.change(r, 2)
	a, want, err := m.backup(s)
	if err != nil {
		t.Fatal(err)
	}
	moved := filepath.Join(t.TempDir(), "moved")
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	judge(t, moved, a, want)
}

// The example makes its images with qemu-img and names backing files by absolute
// paths.
func TestWhatTheExampleWroteIsContinuedAndPruned(t *testing.T) {
	need(t, "qemu-img")
	need(t, "qemu-io")
	dir := t.TempDir()
	var want []byte
	before := ""
	for n := range 3 {
		a := filepath.Join(dir, fmt.Sprintf("7/qemu-%d", 1000+n))
		if err := os.MkdirAll(a, 0o755); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(a, "drive-ide0.qcow2")
		args := []string{"create", "-f", "qcow2", path}
		if before != "" {
			args = append(args, "-b", before, "-F", "qcow2")
		}
		must(t, "qemu-img", append(args, "4M")...)
		must(t, "qemu-io", "-f", "qcow2", "-c", fmt.Sprintf("write -P %d %dk 200k", n+1, n*70+13), path)
		if err := os.WriteFile(filepath.Join(a, "guest.conf"), []byte("name: x\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		before = path
		if want == nil {
			want = make([]byte, 4<<20)
		}
		copy(want[(n*70+13)<<10:], bytes.Repeat([]byte{byte(n + 1)}, 200<<10))
	}
	if err := os.WriteFile(filepath.Join(dir, "7/previous-info"), []byte("1000 1002\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, incremental)
	g := provider.Guest{Kind: provider.QEMU, ID: 7}
	list, err := s.List(t.Context(), &g)
	if err != nil || len(list) != 3 || list[2].Parent != "7/qemu-1001" {
		t.Fatal(list, err)
	}
	m := &machine{guest: g, disks: map[string]*disk{"drive-ide0": {want, map[int64]bool{5: true}}}, start: 2000, last: list[2].Archive, uses: true}
	a, now, err := m.backup(s)
	if err != nil {
		t.Fatal(err)
	}
	if e, err := s.Entry(t.Context(), a); err != nil || e.Parent != "7/qemu-1002" {
		t.Fatal(e, err)
	}
	judge(t, dir, a, now)
	if info, err := os.ReadFile(filepath.Join(dir, "7/previous-info")); err != nil || string(info) != fmt.Sprintf("1000 %d\n", a.Start) {
		t.Errorf("previous-info %q, %v", info, err)
	}
	verdicts, err := s.Prune(t.Context(), provider.PruneOptions{Keep: retention.Options{Last: 1}})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range verdicts {
		if v.Err != nil || (v.Mark == retention.Remove) == (v.Archive == a) {
			t.Errorf("%+v", v)
		}
	}
	if got := names(t, s); !slices.Equal(got, []string{a.Name}) {
		t.Fatalf("listed: %q", got)
	}
	judge(t, dir, a, now)
}

func TestPruneWithoutPolicyOrForADryRunRemovesNothing(t *testing.T) {
	s := store(t, simdisk.New(simdisk.Options{}), incremental)
	r := rand.New(rand.NewPCG(1, 1))
	m := newMachine(r, 100, 300<<10)
	for range 3 {
		if _, _, err := m.backup(s); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []provider.PruneOptions{{}, {Keep: retention.Options{Last: 1}, DryRun: true}, {Keep: retention.Options{Last: 1}, Kind: provider.LXC}} {
		verdicts, err := s.Prune(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		removed := 0
		for _, v := range verdicts {
			if v.Mark == retention.Remove {
				removed++
			}
		}
		if p.DryRun != (removed == 2) || len(names(t, s)) != 3 {
			t.Errorf("%+v: %+v", p, verdicts)
		}
	}
}

func TestPruningRemovesOldLogsOfFailedBackups(t *testing.T) {
	d := simdisk.New(simdisk.Options{})
	s := store(t, d, incremental)
	m := newMachine(newRand(1), 100, 300<<10)
	m.start = 1000
	for range 3 { // 1060, 1120, 1180
		if _, _, err := m.backup(s); err != nil {
			t.Fatal(err)
		}
	}
	for _, start := range []int64{1050, 1130, 1150, 1190} {
		if err := s.PutLog(t.Context(), s.Archive(m.guest, time.Unix(start, 0)), []byte("no")); err != nil {
			t.Fatal(err)
		}
	}
	other := s.Archive(provider.Guest{Kind: provider.LXC, ID: 100}, time.Unix(1, 0))
	if err := s.PutLog(t.Context(), other, []byte("no")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Prune(t.Context(), provider.PruneOptions{Guest: &m.guest, Keep: retention.Options{Last: 2}}); err != nil {
		t.Fatal(err)
	}
	var left []string
	list, err := d.ReadDir("100")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if strings.HasSuffix(e.Name, ".failed") {
			left = append(left, e.Name)
		}
	}
	if want := []string{"lxc-1.failed", "qemu-1130.failed", "qemu-1150.failed", "qemu-1190.failed"}; !slices.Equal(left, want) {
		t.Errorf("left: %q, want %q", left, want)
	}
}

// idle is a large disk on which nothing changed.
type idle struct {
	size int64
	kind image.Kind
}

func (i idle) Size() int64                     { return i.size }
func (idle) ReadAt([]byte, int64) (int, error) { return 0, errors.New("read") }
func (i idle) ExtentAt(off int64) (image.Extent, error) {
	return image.Extent{Offset: off, Length: i.size - off, Kind: i.kind}, nil
}

func TestUnchangedLargeDiskIsNotRead(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, incremental)
	const size = 100 << 30
	g := provider.Guest{Kind: provider.QEMU, ID: 1}
	first, second := s.Archive(g, time.Unix(1, 0)), s.Archive(g, time.Unix(2, 0))
	vm := provider.VM{Volumes: []provider.Volume{{Device: "d", Image: idle{size, image.Zero}, Mode: provider.ModeNew}}}
	if _, err := s.BackupVM(t.Context(), first, vm); err != nil {
		t.Fatal(err)
	}
	vm = provider.VM{Volumes: []provider.Volume{{Device: "d", Image: idle{size, image.Unchanged}, Mode: provider.ModeReuse}}, Base: first}
	res, err := s.BackupVM(t.Context(), second, vm)
	if err != nil || res.Read != 0 || res.Size > 1<<20 {
		t.Fatal(res, err)
	}
	must(t, "qemu-img", "check", filepath.Join(dir, second.Name, "d.qcow2"))
}

func TestNotesAndProtectionStay(t *testing.T) {
	s := store(t, simdisk.New(simdisk.Options{}), dirstore.Options{})
	m := newMachine(rand.New(rand.NewPCG(1, 1)), 100, 300<<10)
	a, _, err := m.backup(s)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for _, step := range []struct {
		do      func() error
		notes   string
		protect bool
	}{
		{func() error { return s.SetNotes(ctx, a, "läuft\nzwei Zeilen") }, "läuft\nzwei Zeilen", false},
		{func() error { return s.SetProtected(ctx, a, true) }, "läuft\nzwei Zeilen", true},
		{func() error { return s.SetProtected(ctx, a, true) }, "läuft\nzwei Zeilen", true},
		{func() error { return s.SetNotes(ctx, a, "") }, "", true},
		{func() error { return s.SetProtected(ctx, a, false) }, "", false},
		{func() error { return s.SetProtected(ctx, a, false) }, "", false},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		e, err := s.Entry(ctx, a)
		if err != nil || e.Notes != step.notes || e.Protected != step.protect {
			t.Fatalf("%+v, %v; want %+v", e, err, step)
		}
		if err := s.Free(ctx, a); e.Protected != errors.Is(err, repo.ErrProtected) {
			t.Fatalf("protected %v: %v", e.Protected, err)
		} else if err == nil {
			if a, _, err = m.backup(s); err != nil {
				t.Fatal(err)
			}
			_ = s.SetNotes(ctx, a, step.notes)
		}
	}
}

func TestWhatIsNotThereIsNotFound(t *testing.T) {
	s := store(t, simdisk.New(simdisk.Options{}), dirstore.Options{})
	ctx := t.Context()
	a := s.Archive(provider.Guest{Kind: provider.QEMU, ID: 9}, time.Unix(77, 0))
	for what, do := range map[string]func() error{
		"Entry":        func() error { _, err := s.Entry(ctx, a); return err },
		"SetNotes":     func() error { return s.SetNotes(ctx, a, "x") },
		"SetProtected": func() error { return s.SetProtected(ctx, a, true) },
		"Free":         func() error { return s.Free(ctx, a) },
		"Configs":      func() error { _, err := s.Configs(ctx, a); return err },
		"Open":         func() error { _, err := s.Open(ctx, a); return err },
	} {
		if err := do(); !errors.Is(err, repo.ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestNamesAreParsedStrictly(t *testing.T) {
	s := store(t, simdisk.New(simdisk.Options{}), dirstore.Options{})
	for _, g := range []provider.Guest{{Kind: provider.QEMU, ID: 100}, {Kind: provider.LXC, ID: 999999999}} {
		a := s.Archive(g, time.Unix(1700000000, 5))
		if got, err := s.Parse(a.Name); err != nil || got != a {
			t.Errorf("Parse(%q) = %+v, %v", a.Name, got, err)
		}
	}
	for _, name := range []string{
		"", "100", "100/", "100/qemu", "100/qemu-", "100/qemu--1", "100/qemu-+1", "100/qemu-01", "0100/qemu-1", "0/qemu-1", "+1/qemu-1",
		"100/host-1", "100/qemu-1.failed", "100/.qemu-1.part", "../100/qemu-1", "100/qemu-1/..", "100//qemu-1", "1000000000/qemu-1", "100/qemu-99999999999999999999",
	} {
		if a, err := s.Parse(name); err == nil {
			t.Errorf("Parse(%q) = %+v", name, a)
		}
	}
}

// A name that parses is the one that the archive has, and a path of two parts.
func FuzzParse(f *testing.F) {
	s := store(f, simdisk.New(simdisk.Options{}), dirstore.Options{})
	for _, name := range []string{"100/qemu-1700000000", "7/lxc-0", "../x", "100/qemu-1.failed"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		a, err := s.Parse(name)
		if err != nil {
			return
		}
		if a.Name != name || s.Archive(a.Guest, time.Unix(a.Start, 0)) != a || strings.Count(name, "/") != 1 || strings.Contains(name, ".") {
			t.Fatalf("%q: %+v", name, a)
		}
	})
}

// Whatever the note says, nothing is built on but what it names.
func FuzzPreviousInfo(f *testing.F) {
	for _, text := range []string{"1000 1060\n", "", "1060", "-1 -1", "1 1060 3", "99999999999999999999 1060"} {
		f.Add(text)
	}
	d := simdisk.New(simdisk.Options{})
	m := newMachine(newRand(1), 100, 64<<10)
	m.start = 1000
	a, _, err := m.backup(store(f, d, incremental))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		now := d.Clone()
		if err := now.Corrupt("100/previous-info", func([]byte) []byte { return []byte(text) }); err != nil {
			t.Fatal(err)
		}
		got, err := store(t, now, incremental).Reusable(t.Context(), a, map[string]int64{"drive-scsi0": 64 << 10})
		if err != nil || len(got) > 0 && !strings.Contains(text, "1060") {
			t.Fatalf("%q: %v, %v", text, got, err)
		}
	})
}

func TestConfigsComeBackAsTheyWere(t *testing.T) {
	s := store(t, simdisk.New(simdisk.Options{}), dirstore.Options{})
	for n, c := range []provider.Configs{
		{Guest: []byte("a: b\n#qmdump#map:scsi0:drive-scsi0:local:raw:\n")},
		{Guest: []byte("x"), Firewall: []byte{}},
		{Guest: []byte("x"), Firewall: []byte("[OPTIONS]\n")},
	} {
		a := s.Archive(provider.Guest{Kind: provider.QEMU, ID: 1}, time.Unix(int64(n+1), 0))
		if _, err := s.BackupVM(t.Context(), a, provider.VM{Configs: c}); err != nil {
			t.Fatal(err)
		}
		got, err := s.Configs(t.Context(), a)
		if err != nil || !bytes.Equal(got.Guest, c.Guest) || !bytes.Equal(got.Firewall, c.Firewall) || (got.Firewall == nil) != (c.Firewall == nil) {
			t.Errorf("%q, %v; want %q", got, err, c)
		}
	}
}

// Whatever fails: nothing of the backup is listed, others are as they were, and
// the next backup works.
func TestAFailedBackupLeavesNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	m := newMachine(r, 100, 500<<10)
	clean := simdisk.New(simdisk.Options{})
	first, want, err := m.backup(store(t, clean, incremental))
	if err != nil {
		t.Fatal(err)
	}
	m.change(r, 4)
	for _, fault := range []faultfs.Rule{{Err: errNoSpace}, {Err: errNoSpace, Short: true}, {Err: errIO, Times: -1}} {
		fired := true
		for n := 1; fired; n++ {
			now := clean.Clone()
			rule := fault
			rule.N, rule.Ops = n, faultfs.Changing()
			broken := faultfs.New(now, &rule)
			a, full, err := m.clone().backup(store(t, broken, incremental))
			fired = broken.Fired()
			s := store(t, now, incremental)
			if err == nil {
				if got, rerr := restore(s, a); rerr != nil || same(got, full) != nil {
					t.Fatalf("%+v: acknowledged and not there: %v", rule, rerr)
				}
				if !fired {
					continue
				}
			} else if got := names(t, s); !slices.Equal(got, []string{first.Name}) && fault.Times == 0 {
				t.Fatalf("%+v: %v; listed: %q", rule, err, got)
			}
			if got, err := restore(s, first); err != nil || same(got, want) != nil {
				t.Fatalf("%+v: the first backup: %v", rule, err)
			}
			if err := s.Prepare(t.Context()); err != nil {
				t.Fatal(err)
			}
			again := m.clone()
			again.start += 60
			a, full, err = again.backup(s)
			if err != nil {
				t.Fatalf("%+v: the next backup: %v", rule, err)
			}
			if got, err := restore(s, a); err != nil || same(got, full) != nil {
				t.Fatalf("%+v: the next backup: %v", rule, err)
			}
			leftovers(t, now)
		}
	}
}

func TestSourceThatFailsAndSealThatRefusesLeaveNothing(t *testing.T) {
	d := simdisk.New(simdisk.Options{})
	s := store(t, d, incremental)
	m := newMachine(rand.New(rand.NewPCG(3, 3)), 100, 500<<10)
	a := s.Archive(m.guest, time.Unix(5, 0))
	gone := errors.New("gone")
	for what, spoil := range map[string]func(*provider.VM) context.Context{
		"seal": func(vm *provider.VM) context.Context {
			vm.Seal = func(context.Context) error { return gone }
			return t.Context()
		},
		"source": func(vm *provider.VM) context.Context {
			vm.Volumes[0].Image.(*point).fail = gone
			return t.Context()
		},
		"context": func(vm *provider.VM) context.Context {
			ctx, cancel := context.WithCancelCause(t.Context())
			vm.Seal = func(context.Context) error { cancel(gone); return nil }
			return ctx
		},
	} {
		vm, _, _ := m.vm(s)
		ctx := spoil(&vm)
		if _, err := s.BackupVM(ctx, a, vm); !errors.Is(err, gone) {
			t.Errorf("%s: %v", what, err)
		}
		if got := names(t, s); got != nil {
			t.Errorf("%s: listed: %q", what, got)
		}
		leftovers(t, d)
	}
	if err := s.PutLog(t.Context(), a, []byte("it failed\n")); err != nil {
		t.Fatal(err)
	}
	if b, err := d.Content("100/qemu-5.failed/backup.log"); err != nil || string(b) != "it failed\n" {
		t.Errorf("log: %q, %v", b, err)
	}
	vm, _, _ := m.vm(s)
	if _, err := s.BackupVM(t.Context(), a, vm); err != nil {
		t.Fatal(err)
	}
	if err := s.PutLog(t.Context(), a, []byte("it worked\n")); err != nil {
		t.Fatal(err)
	}
	if b, err := d.Content("100/qemu-5/backup.log"); err != nil || string(b) != "it worked\n" {
		t.Errorf("log: %q, %v", b, err)
	}
}

func TestUnchangedWithoutABaseIsRefused(t *testing.T) {
	s := store(t, simdisk.New(simdisk.Options{}), incremental)
	m := newMachine(rand.New(rand.NewPCG(3, 3)), 100, 500<<10)
	p := m.disks["drive-scsi0"].point(provider.ModeReuse)
	clear(p.dirty)
	a := s.Archive(m.guest, time.Unix(5, 0))
	vm := provider.VM{Volumes: []provider.Volume{{Device: "drive-scsi0", Image: p, Mode: provider.ModeNew}}}
	if _, err := s.BackupVM(t.Context(), a, vm); err == nil {
		t.Error("a backup with holes")
	}
	vm.Volumes[0].Mode = provider.ModeReuse
	if _, err := s.BackupVM(t.Context(), a, vm); err == nil {
		t.Error("a backup on top of nothing")
	}
	vm.Base = s.Archive(m.guest, time.Unix(4, 0))
	if _, err := s.BackupVM(t.Context(), a, vm); err == nil {
		t.Error("a backup on top of what is not there")
	}
	if got := names(t, s); got != nil {
		t.Errorf("listed: %q", got)
	}
}

func TestWhatIsStoredIsConsumed(t *testing.T) {
	s := store(t, simdisk.New(simdisk.Options{}), incremental)
	m := newMachine(rand.New(rand.NewPCG(3, 3)), 100, 5<<20)
	vm, _, _ := m.vm(s)
	if _, err := s.BackupVM(t.Context(), s.Archive(m.guest, time.Unix(5, 0)), vm); err != nil {
		t.Fatal(err)
	}
	if n := len(vm.Volumes[0].Image.(*point).consumed); n != 5<<20/grain {
		t.Errorf("%d blocks of %d", n, 5<<20/grain)
	}
}

// What a bitmap counts from must be the newest backup that was noted.
func TestReusableIsOnlyTheNewestBackup(t *testing.T) {
	d := simdisk.New(simdisk.Options{})
	s := store(t, d, incremental)
	m := newMachine(rand.New(rand.NewPCG(3, 3)), 100, 500<<10, 300<<10)
	first, _, err := m.backup(s)
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := m.backup(s)
	if err != nil {
		t.Fatal(err)
	}
	sizes := map[string]int64{"drive-scsi0": 500 << 10, "drive-scsi1": 300 << 10, "drive-scsi2": 1 << 20}
	ask := func(s provider.Storage, a provider.Archive) int {
		got, err := s.Reusable(t.Context(), a, sizes)
		if err != nil {
			t.Fatal(err)
		}
		return len(got)
	}
	if n := ask(s, second); n != 2 {
		t.Errorf("the newest: %d disks", n)
	}
	if n := ask(s, first); n != 0 {
		t.Errorf("the one before: %d disks", n)
	}
	if n := ask(store(t, d, dirstore.Options{}), second); n != 0 {
		t.Errorf("with full backups: %d disks", n)
	}
	sizes["drive-scsi0"]++
	if n := ask(s, second); n != 1 {
		t.Errorf("grown: %d disks", n)
	}
	if err := d.Corrupt("100/"+filepath.Base(first.Name)+"/drive-scsi1.qcow2", func([]byte) []byte { return nil }); err != nil {
		t.Fatal(err)
	}
	if n := ask(s, second); n != 0 {
		t.Errorf("a damaged base: %d disks", n)
	}
}

func TestRemovalWithoutRoomToMergeHidesAndIsMadeUpFor(t *testing.T) {
	d := simdisk.New(simdisk.Options{Capacity: 4500 << 10})
	s := store(t, d, incremental)
	r := rand.New(rand.NewPCG(3, 3))
	m := newMachine(r, 100, 1<<20)
	scribble := func() {
		b := m.disks["drive-scsi0"].b
		for i := range b {
			b[i] = byte(i>>9+r.IntN(2)) | 1
		}
		for g := range int64(len(b) / grain) {
			m.disks["drive-scsi0"].dirty[g] = true
		}
	}
	scribble()
	first, _, err := m.backup(s)
	if err != nil {
		t.Fatal(err)
	}
	scribble()
	second, want, err := m.backup(s)
	if err != nil {
		t.Fatal(err)
	}
	filler, err := d.Create("filler", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	u, _ := d.Usage()
	if _, err := filler.WriteAt(bytes.Repeat([]byte{1}, int(u.Available)-200<<10), 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Free(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(t.Context(), first); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("the removed backup: %v", err)
	}
	if e, err := s.Entry(t.Context(), second); err != nil || e.Parent != "" {
		t.Errorf("%+v, %v: it builds on nothing that is listed", e, err)
	}
	leftovers(t, d)
	whole := func() {
		t.Helper()
		if got, err := restore(s, second); err != nil || same(got, want) != nil {
			t.Fatalf("%s: %v", second.Name, err)
		}
	}
	whole()
	if _, err := d.Lstat(first.Name); err != nil {
		t.Fatalf("what the second backup needs is gone: %v", err)
	}
	if err := errors.Join(filler.Close(), d.Remove("filler"), d.SyncDir(".")); err != nil {
		t.Fatal(err)
	}
	third, _, err := m.backup(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Free(t.Context(), third); err != nil {
		t.Fatal(err)
	}
	whole()
	if _, err := d.Lstat(first.Name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is room now, and the first backup is still there: %v", err)
	}
}

// A removal that cannot even be noted changes nothing.
func TestRemovalThatCannotBeNotedRefuses(t *testing.T) {
	d := simdisk.New(simdisk.Options{})
	m := newMachine(rand.New(rand.NewPCG(3, 3)), 100, 300<<10)
	s := store(t, d, incremental)
	first, _, err := m.backup(s)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.backup(s); err != nil {
		t.Fatal(err)
	}
	full := faultfs.New(d, &faultfs.Rule{Ops: []faultfs.Op{faultfs.Create}, Times: -1, Err: errNoSpace})
	if err := store(t, full, incremental).Free(t.Context(), first); !errors.Is(err, provider.ErrNeeded) || !errors.Is(err, errNoSpace) {
		t.Errorf("err = %v", err)
	}
	if got := names(t, s); len(got) != 2 {
		t.Errorf("listed %q", got)
	}
}

// A large first backup is not copied for every small one that is removed, and
// what is not listed does not become many files.
func TestManySmallRemovalsCopyLittle(t *testing.T) {
	d := simdisk.New(simdisk.Options{})
	counted := &counting{FS: d}
	s := store(t, counted, incremental)
	r := rand.New(rand.NewPCG(3, 3))
	m := newMachine(r, 100, 8<<20)
	for i := range m.disks["drive-scsi0"].b {
		m.disks["drive-scsi0"].b[i] = byte(i>>9) | 1
	}
	most := 0
	var want content
	for range 40 {
		m.change(r, 1)
		var err error
		if _, want, err = m.backup(s); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Prune(t.Context(), provider.PruneOptions{Keep: retention.Options{Last: 2}}); err != nil {
			t.Fatal(err)
		}
		if n := len(names(t, s)); n > 2 {
			t.Fatalf("%d listed", n)
		}
		list, err := d.ReadDir("100")
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, len(list)-2) // the lock and previous-info
	}
	if got, err := restore(s, m.last); err != nil || same(got, want) != nil {
		t.Fatal(err, same(got, want))
	}
	if most > 9 {
		t.Errorf("%d backups at a time for 2 that are listed", most)
	}
	if n := counted.written.Load(); n > 80<<20 {
		t.Errorf("%d MiB written for 8 MiB and 40 changes", n>>20)
	}
}

// counting counts bytes that are written.
type counting struct {
	vfs.FS
	written atomic.Int64
}

func (c *counting) Create(name string, perm os.FileMode) (vfs.File, error) {
	f, err := c.FS.Create(name, perm)
	return &countingFile{f, c}, err
}

type countingFile struct {
	vfs.File
	c *counting
}

func (f *countingFile) WriteAt(p []byte, off int64) (int, error) {
	f.c.written.Add(int64(len(p)))
	return f.File.WriteAt(p, off)
}

func TestLocksKeepBackupRestoreAndRemovalApart(t *testing.T) {
	d := simdisk.New(simdisk.Options{})
	here, there := store(t, d.Process(), incremental), store(t, d.Process(), incremental)
	m := newMachine(rand.New(rand.NewPCG(3, 3)), 100, 300<<10)
	a, _, err := m.backup(here)
	if err != nil {
		t.Fatal(err)
	}
	src, err := here.Open(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	if err := there.Free(t.Context(), a); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("removal during a restore: %v", err)
	}
	if err := there.SetProtected(t.Context(), a, false); err != nil {
		t.Errorf("protection during a restore: %v", err)
	}
	vm, _, _ := m.vm(here)
	vm.Seal = func(ctx context.Context) error { // everything is stored now
		if err := there.Free(ctx, a); !errors.Is(err, vfs.ErrLocked) {
			t.Errorf("removal during a backup: %v", err)
		}
		if err := there.Prepare(ctx); err != nil {
			t.Errorf("a job that begins during a backup: %v", err)
		}
		other, _, _ := m.vm(there)
		if _, err := there.BackupVM(ctx, there.Archive(m.guest, time.Unix(9, 0)), other); !errors.Is(err, vfs.ErrLocked) {
			t.Errorf("second backup: %v", err)
		}
		return nil
	}
	b := here.Archive(m.guest, time.Unix(1800000000, 0))
	if _, err := here.BackupVM(t.Context(), b, vm); err != nil {
		t.Fatal(err)
	}
	if err := src.Close(); err != nil {
		t.Fatal(err)
	}
	if err := there.Free(t.Context(), a); err != nil {
		t.Error(err)
	}
	if _, err := restore(there, b); err != nil {
		t.Error(err)
	}
}
