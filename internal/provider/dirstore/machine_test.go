package dirstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/holdfast-backup/holdfast/internal/provider/dirstore"
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

// A name that parses is the one that the archive has, and a path of two parts.
// Whatever the note says, nothing is built on but what it names.
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

// A removal that cannot even be noted changes nothing.
// A large first backup is not copied for every small one that is removed, and
// what is not listed does not become many files.
// counting counts bytes that are written.
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
