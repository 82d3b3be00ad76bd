package guest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/appliance"
	"github.com/holdfast-backup/holdfast/internal/appliance/appliancetest"
	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/guest/qemu"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

const writerPackage = "github.com/holdfast-backup/holdfast/test/guest/writer"

// liveDisks makes two raw disks for records and a qcow2 with ext4 for files.
func liveDisks(t *testing.T) (drives []appliance.Drive) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"first", "second"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 16*mib)); err != nil {
			t.Fatal(err)
		}
		drives = append(drives, appliance.Drive{Path: path})
	}
	path := filepath.Join(dir, "files.qcow2")
	raw := path + ".raw"
	if err := errors.Join(os.WriteFile(raw, nil, 0o600), os.Truncate(raw, 256*mib)); err != nil {
		t.Fatal(err)
	}
	host(t, "", "mkfs.ext4", "-q", "-F", raw)
	host(t, "", "qemu-img", "convert", "-O", "qcow2", raw, path)
	return append(drives, appliance.Drive{Path: path, Format: "qcow2"})
}

// A Linux guest writes to three disks while it is backed up again and again; each
// snapshot must hold all three at one moment, with nothing torn and no file lost
// that was synced.
func TestSnapshotsOfAWritingGuestAreConsistent(t *testing.T) {
	for _, m := range []qemu.Method{qemu.Filter, qemu.Job} {
		t.Run(m.String(), func(t *testing.T) { backUpWritingGuest(t, m) })
	}
}

func backUpWritingGuest(t *testing.T, m qemu.Method) {
	sockets, err := os.MkdirTemp("", "hfl") // short paths
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(sockets) })
	opts := qemu.Options{
		QMP: filepath.Join(sockets, "qmp"), Agent: filepath.Join(sockets, "qga"),
		RunDir: sockets, ScratchDir: t.TempDir(), Method: m,
	}
	program := appliance.File{Name: "/bin/writer", From: appliancetest.Build(t, writerPackage), Mode: 0o755}
	spec := appliancetest.Spec{
		Modules: []string{"ext4"}, Tools: []string{"sh", "sha256sum", "grep", "cat", "qemu-ga"}, MemoryMB: 256,
		Files: []appliance.File{program}, Drives: liveDisks(t),
		Monitor: opts.QMP, Port: appliance.Port{Name: "org.qemu.guest_agent.0", Socket: opts.Agent},
	}
	vm := appliancetest.Start(t, spec)
	if err := vm.Mount(ctx(t), "/dev/vdc", "/mnt", "ext4", 0, ""); err != nil {
		t.Fatal(err)
	}
	startAgent(t, vm)
	var snapshots []names.Snapshot
	r := repotest.New()
	written := make(chan error, 1)
	go func() { written <- writeInside(t.Context(), vm, 20) }()
	frozen := 0
	for i := 0; len(written) == 0; i++ {
		snapshots = append(snapshots, liveBackup(t, r, opts, i))
		frozen++
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if frozen < 3 {
		t.Errorf("only %d backups in the time", frozen)
	}
	if err := vm.Shutdown(ctx(t)); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d snapshots", len(snapshots))
	spec.Monitor, spec.Port = "", appliance.Port{}
	for _, s := range []names.Snapshot{snapshots[0], snapshots[len(snapshots)/2], snapshots[len(snapshots)-1]} {
		spec.Drives = restoreLive(t, r, s)
		judgeCopy(t, spec)
	}
}

// startAgent starts QEMU's guest agent, which has its port by name.
func startAgent(t *testing.T, vm *appliancetest.VM) {
	t.Helper()
	const script = `for p in /sys/class/virtio-ports/*; do
	test "$(cat $p/name)" = org.qemu.guest_agent.0 && qemu-ga -d -p /dev/${p##*/} -t /run -f /run/qga.pid && exit 0
done; exit 1`
	if out, err := vm.Output(ctx(t), "sh", "-c", script); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func writeInside(c context.Context, vm *appliancetest.VM, seconds int) error {
	c, cancel := context.WithTimeout(c, time.Duration(seconds+60)*time.Second)
	defer cancel()
	out, err := vm.Output(c, "/bin/writer", "write", fmt.Sprint(seconds), "/dev/vda", "/dev/vdb", "/mnt")
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func liveBackup(t *testing.T, r *repotest.Memory, opts qemu.Options, i int) names.Snapshot {
	t.Helper()
	opts.MustFreeze = i%2 == 0
	if !opts.MustFreeze {
		opts.Agent = ""
	}
	g, err := qemu.Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = g.Close() }()
	job := guest.Job{
		Snapshot:   names.Snapshot{Group: names.Group{Type: names.VM, ID: "live"}, Time: 1_700_000_000 + int64(i)},
		Repository: "memory", Bitmaps: guest.Reuse, Options: backup.Options{ChunkSize: mib, Rate: 200 * mib},
	}
	rep, err := guest.Backup(t.Context(), r, g, job)
	if err != nil {
		t.Fatal(err)
	}
	if rep.Leftover != nil {
		t.Fatal(rep.Leftover)
	}
	for _, d := range rep.Disks {
		if i > 0 && d.Mode != guest.Reuse {
			t.Errorf("backup %d: %s: %s (%s)", i, d.Name, d.Mode, d.Why)
		}
	}
	return rep.Snapshot
}

// restoreLive writes the disks of a snapshot to files.
func restoreLive(t *testing.T, r *repotest.Memory, name names.Snapshot) (drives []appliance.Drive) {
	t.Helper()
	s, err := r.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range s.Manifest().Files {
		if !strings.HasSuffix(f.Filename, ".img.fidx") {
			continue
		}
		b, err := s.Content(f.Archive(), nil)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), f.Filename)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		drives = append(drives, appliance.Drive{Path: path})
	}
	return drives
}

// judgeCopy starts a guest with restored disks.
func judgeCopy(t *testing.T, spec appliancetest.Spec) {
	t.Helper()
	vm := appliancetest.Start(t, spec)
	out, err := vm.Output(ctx(t), "/bin/writer", "check", "/dev/vda", "/dev/vdb")
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if err := vm.Mount(ctx(t), "/dev/vdc", "/mnt", "ext4", 0, ""); err != nil {
		t.Fatal(err)
	}
	sums, err := vm.Output(ctx(t), "sh", "-c", "cd /mnt && test ! -s sums || sha256sum -c --strict --quiet sums && grep -c . sums")
	if err != nil && string(out) != "0\n" {
		t.Errorf("%v: %s", err, sums)
	}
	t.Logf("record %s, files %s", strings.TrimSpace(string(out)), strings.TrimSpace(string(sums)))
}
