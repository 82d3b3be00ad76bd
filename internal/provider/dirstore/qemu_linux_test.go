package dirstore_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/holdfast-backup/holdfast/internal/provider/dirstore"
	"github.com/holdfast-backup/holdfast/internal/provider/providertest"
	"github.com/holdfast-backup/holdfast/internal/vfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/faultfs"
)

// A real machine is backed up again and again, as the platform does it, while its
// guest writes; some backups fail. Every backup is judged by QEMU.
func TestRunningMachineIsBackedUpIncrementally(t *testing.T) {
	need(t, "qemu-img")
	const mib = 1 << 20
	m := providertest.Start(t, map[string]int64{"scsi0": 32 * mib, "efidisk0": 9*mib + 512})
	m.Write(t, "scsi0", 0, 8*mib, 0x11)
	m.Write(t, "efidisk0", 0, mib, 0x22)
	dir := t.TempDir()
	v, err := vfs.OpenOS(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	notes, err := provider.OpenNotebook(t.TempDir(), "store")
	if err != nil {
		t.Fatal(err)
	}
	logf := func(_ provider.Level, text string) { t.Log(text) }
	guest := provider.Guest{Kind: provider.QEMU, ID: 100}
	judged := map[string]content{}
	clock := int64(1700000000)
	for _, step := range []struct {
		what  string
		fail  bool
		modes provider.Mode // of scsi0
	}{
		{"first", false, provider.ModeNew},
		{"second", false, provider.ModeReuse},
		{"without room", true, provider.ModeReuse},
		{"after a failure", false, provider.ModeReuse},
		{"after a restart", false, provider.ModeNew},
		{"last", false, provider.ModeReuse},
	} {
		clock++
		if strings.Contains(step.what, "restart") {
			m.Restart(t)
		}
		fs := vfs.FS(v)
		if step.fail {
			fs = faultfs.New(v, &faultfs.Rule{Ops: []faultfs.Op{faultfs.Write}, Path: "*.qcow2", N: 2, Times: -1, Err: errNoSpace})
		}
		s, err := dirstore.New(fs, dir, incremental)
		if err != nil {
			t.Fatal(err)
		}
		service := provider.New(s, provider.Options{Notes: notes, PIDFile: m.PIDFile})
		if err := service.JobInit(t.Context(), logf); err != nil {
			t.Fatal(err)
		}
		a, err := service.BackupInit(guest, time.Unix(clock, 0))
		if err != nil {
			t.Fatal(err)
		}
		wish, err := service.QueryIncremental(t.Context(), logf, 100, m.Sizes())
		if err != nil {
			t.Fatal(err)
		}
		disks := m.Setup(t, wish)
		if got := disks["drive-scsi0"].Mode; got != step.modes {
			t.Errorf("%s: %s, want %s", step.what, got, step.modes)
		}
		want := content{"drive-scsi0": m.Content(t, "scsi0"), "drive-efidisk0": m.Content(t, "efidisk0")}
		m.Write(t, "scsi0", 4*mib, mib, byte(clock)) // later than the point
		err = service.BackupVM(t.Context(), logf, 100, a.Name, provider.Machine{Configs: provider.Configs{Guest: []byte("memory: 128\n")}, Disks: disks})
		if step.fail != (err != nil) || step.fail && !errors.Is(err, errNoSpace) {
			t.Fatalf("%s: %v", step.what, err)
		}
		m.Teardown(t, err == nil)
		if _, err := service.BackupCleanup(t.Context(), logf, guest, "", err == nil, ""); err != nil {
			t.Fatal(err)
		}
		if err == nil {
			judged[a.Name] = want
		}
		m.Write(t, "scsi0", 20*mib, 3*mib, byte(clock)) // between two backups
		leftovers(t, v)
	}
	if len(judged) != 5 {
		t.Fatalf("%d backups", len(judged))
	}
	s := at(t, v, dir)
	for _, name := range names(t, s) {
		a, err := s.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		judge(t, dir, a, judged[name])
		info, err := os.Stat(filepath.Join(dir, name, "drive-scsi0.qcow2"))
		if err != nil {
			t.Fatal(err)
		}
		if e, err := s.Entry(t.Context(), a); err != nil || (e.Parent != "") != (info.Size() < 8*mib) {
			t.Errorf("%s: %d bytes, on %q, %v", name, info.Size(), e.Parent, err)
		}
	}
}

func at(t *testing.T, v vfs.FS, dir string) *dirstore.Store {
	t.Helper()
	s, err := dirstore.New(v, dir, incremental)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A disk of a backup is shown as a file, without a device, and qemu-img reads it.
func TestDisksAreShownAsFiles(t *testing.T) {
	asRoot(t)
	need(t, "qemu-img")
	if _, err := os.Stat("/dev/fuse"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir := t.TempDir()
	s := open(t, dir, incremental)
	m := newMachine(newRand(9), 100, 3<<20)
	if _, _, err := m.backup(s); err != nil {
		t.Fatal(err)
	}
	m.change(newRand(10), 5)
	a, want, err := m.backup(s)
	if err != nil {
		t.Fatal(err)
	}
	service := provider.New(s, provider.Options{Scratch: t.TempDir()})
	if list, err := service.RestoreVMInit(t.Context(), "backup/"+a.Name); err != nil || len(list) != 1 || list[0].Size != 3<<20 {
		t.Fatal(list, err)
	}
	path, err := service.RestoreVolumeInit(t.Context(), a.Name, "drive-scsi0")
	if err != nil {
		t.Fatal(err)
	}
	raw := filepath.Join(t.TempDir(), "raw")
	out, cerr := exec.CommandContext(t.Context(), "qemu-img", "convert", "-f", "raw", "-O", "raw", path, raw).CombinedOutput()
	if err := service.RestoreCleanup(t.Context(), a.Name); err != nil {
		t.Error(err)
	}
	if cerr != nil {
		t.Fatalf("%v: %s", cerr, out)
	}
	got, err := os.ReadFile(raw)
	if err == nil {
		err = same(content{"drive-scsi0": got}, want)
	}
	if err != nil {
		t.Fatal(err)
	}
}
