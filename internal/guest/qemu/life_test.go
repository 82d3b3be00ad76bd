package qemu_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/guest/qemu"
	"github.com/holdfast-backup/holdfast/internal/guest/qemu/qemutest"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

func TestBitmapOnQcow2OutlivesQEMU(t *testing.T) {
	s := newSite(t)
	s.write(t, "root", 0, 4*mib, 0x11)
	s.backup(t)
	s.write(t, "root", 5*mib, 4096, 0x12)
	s.vm.Quit(t)
	s.start(t)
	s.write(t, "data", 0, 4096, 0x13)
	wantModes(t, s.backup(t), modes(guest.Reuse, guest.MissingRecreated))
	wantModes(t, s.backup(t), modes(guest.Reuse, guest.Reuse))
}

func TestKilledQEMULeavesNoUsableBitmap(t *testing.T) {
	s := newSite(t)
	s.backup(t)
	s.write(t, "root", 0, 4096, 0x11)
	s.vm.IO(t, "root", "flush")
	s.vm.Kill()
	s.start(t)
	r := s.backup(t)
	wantModes(t, r, modes(guest.MissingRecreated, guest.MissingRecreated))
	if !strings.Contains(r.Disks[1].Why, "inconsistent") && !strings.Contains(r.Disks[1].Why, "gone") {
		t.Errorf("why: %q", r.Disks[1].Why)
	}
	wantModes(t, s.backup(t), modes(guest.Reuse, guest.Reuse))
}

// A bitmap that is stored becomes inconsistent when QEMU is killed after it
// loaded it.
func TestInconsistentBitmapIsReplaced(t *testing.T) {
	s := newSite(t)
	s.backup(t)
	s.vm.Quit(t)
	s.start(t)
	s.write(t, "root", 0, 4096, 0x11)
	s.vm.IO(t, "root", "flush")
	s.vm.Kill()
	s.start(t)
	r := s.backup(t)
	wantModes(t, r, modes(guest.MissingRecreated, guest.MissingRecreated))
	if !strings.Contains(r.Disks[1].Why, "inconsistent") {
		t.Errorf("why: %q", r.Disks[1].Why)
	}
	wantModes(t, s.backup(t), modes(guest.Reuse, guest.Reuse))
}

func TestResizedDiskIsReadInFull(t *testing.T) {
	s := newSite(t)
	s.write(t, "root", 0, 4*mib, 0x11)
	s.backup(t)
	s.vm.Run(t, "block_resize", map[string]any{"node-name": "node-root", "size": 11 * mib}, nil)
	s.model["root"] = append(s.model["root"], make([]byte, 3*mib)...)
	r := s.backup(t)
	wantModes(t, r, modes(guest.MissingRecreated, guest.Reuse))
	wantModes(t, s.backup(t), modes(guest.Reuse, guest.Reuse))
}

func TestSomeoneElsesBitmapsStay(t *testing.T) {
	s := newSite(t)
	for _, name := range []string{"virtnbdbackup.0", "holdfast-0123456789abcdef-1-01020304"} {
		s.vm.Run(t, "block-dirty-bitmap-add", map[string]any{"node": "node-root", "name": name, "granularity": 65536}, nil)
	}
	if _, err := s.try(t); err != nil {
		t.Fatal(err)
	}
	if _, err := s.try(t); err != nil {
		t.Fatal(err)
	}
	left := strings.Join(s.vm.Left(t), "\n")
	if !strings.Contains(left, "holdfast-0123456789abcdef-1-01020304") || strings.Count(left, "\n") != 2 {
		t.Errorf("left: %s", left)
	}
	s.vm.Run(t, "block-dirty-bitmap-remove", map[string]any{"node": "node-root", "name": "virtnbdbackup.0"}, nil) // is there
}

func TestGuestMigratedToAFileKeepsWhatQcow2Keeps(t *testing.T) {
	s := newSite(t, func(spec *qemutest.Spec) { spec.Paused = false })
	s.write(t, "root", 0, 4*mib, 0x11)
	s.backup(t)
	s.write(t, "root", 6*mib, 4096, 0x12)
	file := filepath.Join(t.TempDir(), "state")
	s.vm.Run(t, "migrate", map[string]any{"uri": "exec:cat > " + file}, nil)
	for status := ""; status != "completed"; {
		var st struct{ Status string }
		s.vm.Run(t, "query-migrate", nil, &st)
		if status = st.Status; status == "failed" {
			t.Fatal("the migration failed")
		}
	}
	if _, err := s.try(t); err == nil || !strings.Contains(err.Error(), "migrated") {
		t.Errorf("a guest that has gone: err = %v", err)
	}
	s.vm.Quit(t)
	s.spec.Args = []string{"-incoming", "exec:cat " + file}
	s.start(t)
	for running := false; !running; {
		var st struct{ Running bool }
		s.vm.Run(t, "query-status", nil, &st)
		running = st.Running
	}
	wantModes(t, s.backup(t), modes(guest.Reuse, guest.MissingRecreated))
}

func TestEveryKindOfDevice(t *testing.T) {
	dir := t.TempDir()
	s := newSite(t, func(spec *qemutest.Spec) {
		spec.Paused = false
		for _, kind := range []string{"virtio", "scsi", "legacy"} {
			for _, format := range []string{"raw", "qcow2"} {
				spec.Disks = append(spec.Disks, qemutest.Disk{
					ID: kind + format, Path: filepath.Join(dir, kind+"."+format), Format: format, Size: mib, Device: kind,
				})
			}
		}
	})
	eachMethod(t, func(t *testing.T, m qemu.Method) {
		s.opts.Method = m
		for _, d := range s.spec.Disks {
			s.write(t, d.ID, 4096, 4096, 0x21)
		}
		for range 3 {
			s.backup(t, func(j *guest.Job) {
				j.Taken = func(guest.Point) {
					for _, d := range s.spec.Disks {
						s.write(t, d.ID, 8192, 4096, 0x22)
						s.zero(t, d.ID, 4096, 4096)
					}
				}
			})
		}
		var st struct{ Running bool }
		s.vm.Run(t, "query-status", nil, &st)
		if !st.Running {
			t.Error("the guest does not run any more")
		}
	})
}

func TestDisksAreChosen(t *testing.T) {
	s := newSite(t, func(spec *qemutest.Spec) {
		iso := filepath.Join(t.TempDir(), "cd.iso")
		if err := os.WriteFile(iso, make([]byte, 65536), 0o600); err != nil {
			t.Fatal(err)
		}
		spec.Args = []string{
			"-drive", "if=none,id=cd,media=cdrom,file=" + iso, "-device", "scsi-cd,drive=cd,id=cd0",
			"-device", "scsi-cd,id=empty",
			"-blockdev", "driver=raw,node-name=ro,read-only=on,file.driver=file,file.filename=" + iso, "-device", "virtio-blk-pci,drive=ro,id=ro0",
		}
	})
	wantModes(t, s.backup(t), modes(guest.New, guest.New))
	s.opts.Disks = []string{"drive-root", "drive-ro0"}
	s.model["ro0"] = make([]byte, 65536)
	wantModes(t, s.backup(t), map[string]guest.Mode{"drive-root": guest.Reuse, "drive-ro0": guest.None})
	s.opts.Disks, s.opts.Skip = nil, []string{"drive-root"}
	wantModes(t, s.backup(t), map[string]guest.Mode{"drive-data": guest.New})
	s.opts.Skip = []string{"drive-nonsense"}
	if _, err := s.try(t); err == nil || !strings.Contains(err.Error(), "drive-nonsense") {
		t.Errorf("err = %v", err)
	}
}

func TestFullRepositoryCostsNoChange(t *testing.T) {
	eachMethod(t, func(t *testing.T, m qemu.Method) {
		s := newSite(t)
		s.opts.Method = m
		s.write(t, "root", 0, 8*mib, 0x11)
		s.backup(t)
		s.write(t, "root", 0, 4096, 0x12)
		full := errors.New("no space left in the repository")
		s.repo.Fail = func(op string) error {
			if op == repotest.OpPut {
				return full
			}
			return nil
		}
		if _, err := s.try(t, func(j *guest.Job) {
			j.Taken = func(guest.Point) { s.write(t, "root", 3*mib, 4096, 0x13) }
		}); !errors.Is(err, full) {
			t.Fatalf("err = %v", err)
		}
		s.clean(t)
		s.repo.Fail = nil
		wantModes(t, s.backup(t), modes(guest.Reuse, guest.Reuse))
	})
}

func TestQEMUKilledDuringABackupEndsIt(t *testing.T) {
	eachMethod(t, func(t *testing.T, m qemu.Method) {
		s := newSite(t)
		s.opts.Method = m
		s.write(t, "root", 0, 8*mib, 0x11)
		s.vm.IO(t, "root", "flush")
		_, err := s.try(t, func(j *guest.Job) {
			j.Started = func(name names.Archive, _ int64) {
				if name == "drive-root.img.fidx" {
					s.vm.Kill()
				}
			}
		})
		if !errors.Is(err, qemu.ErrGone) {
			t.Fatalf("err = %v", err)
		}
		if s.repo.Snapshots() != 0 || s.repo.InUse() != 0 {
			t.Error("something is left in the repository")
		}
		s.noFiles(t)
		s.start(t)
		r := s.backup(t)
		wantModes(t, r, modes(guest.New, guest.New))
	})
}

func TestScratchLimitBreaksTheBackupNotTheGuest(t *testing.T) {
	s := newSite(t)
	s.write(t, "root", 0, 8*mib, 0x11)
	s.opts.ScratchLimit = 2 * mib
	_, err := s.try(t, func(j *guest.Job) {
		j.Taken = func(p guest.Point) {
			s.write(t, "root", 0, 6*mib, 0x12)
			for end := time.Now().Add(time.Minute); time.Now().Before(end); { // until it is noticed
				if _, err := p.Disks()[1].Image.ReadAt(make([]byte, 512), 0); err != nil {
					return
				}
			}
		}
	})
	if !errors.Is(err, qemu.ErrScratch) {
		t.Fatalf("err = %v", err)
	}
	s.clean(t)
	s.backup(t)
	s.opts.Method = qemu.Job // needs it all beforehand
	if _, err := s.try(t); !errors.Is(err, qemu.ErrScratch) {
		t.Fatalf("err = %v", err)
	}
}

// A file system that is full is no error of the guest's.
func TestFullScratchDirectoryBreaksTheBackupNotTheGuest(t *testing.T) {
	qemutest.Need(t, "mount")
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("only root can mount a small file system")
		}
		t.Skip("only root can mount a small file system")
	}
	small := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size=2m", "none", small).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", small).CombinedOutput(); err != nil { //nolint:noctx // the test's has ended
			t.Errorf("%v: %s", err, out)
		}
	})
	s := newSite(t)
	s.write(t, "root", 0, 8*mib, 0x11)
	s.opts.ScratchDir = small
	_, err := s.try(t, func(j *guest.Job) {
		j.Taken = func(guest.Point) { s.write(t, "root", 0, 8*mib, 0x12) } // fails the test if the guest's write fails
	})
	if err == nil {
		t.Fatal("a backup with a full scratch file succeeded")
	}
	s.clean(t)
	s.opts.ScratchDir = s.opts.RunDir
	s.backup(t)
	s.opts.ScratchDir, s.opts.Method = small, qemu.Job
	if _, err := s.try(t); err == nil || !strings.Contains(err.Error(), "reserve") {
		t.Errorf("err = %v", err)
	}
	s.clean(t)
}

func TestForeignNBDServerIsLeftAlone(t *testing.T) {
	s := newSite(t)
	socket := filepath.Join(filepath.Dir(s.vm.QMP), "other")
	s.vm.Run(t, "nbd-server-start", map[string]any{"addr": map[string]any{"type": "unix", "data": map[string]any{"path": socket}}}, nil)
	if _, err := s.try(t); !errors.Is(err, qemu.ErrBusy) {
		t.Fatalf("err = %v", err)
	}
	s.clean(t)
	s.vm.Run(t, "nbd-server-stop", nil, nil) // still runs
	s.backup(t)
}

func TestDiskInAThreadIsRefusedWhereItEndangersTheGuest(t *testing.T) {
	s := newSite(t, func(spec *qemutest.Spec) {
		spec.Disks = append(spec.Disks, qemutest.Disk{
			ID: "quick", Path: filepath.Join(t.TempDir(), "quick.raw"), Format: "raw", Size: mib, Device: "iothread",
		})
	})
	if s.vm.Version().Major < 9 {
		if _, err := s.try(t); !errors.Is(err, qemu.ErrThread) {
			t.Fatalf("err = %v", err)
		}
		s.clean(t)
		s.opts.Skip = []string{"drive-quick"}
	}
	s.backup(t)
}
