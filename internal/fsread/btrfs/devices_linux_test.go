package btrfs_test

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/btrfs"
	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// attach makes files loop devices until detach is called, or the test ends.
func attach(t *testing.T, files []string) (devices []string, detach func()) {
	t.Helper()
	fsreadtest.Root(t)
	for _, f := range files {
		devices = append(devices, strings.TrimSpace(fsreadtest.Run(t, "losetup", "--show", "-f", f)))
	}
	detach = func() {
		for _, d := range devices {
			// The kernel remembers devices of what was mounted, also when they are others by then.
			_ = exec.Command("btrfs", "device", "scan", "--forget", d).Run()
			fsreadtest.Run(t, "losetup", "-d", d)
		}
		devices = nil
	}
	t.Cleanup(func() { detach() })
	return devices, detach
}

// mountAll mounts a file system of several devices until unmount is called.
func mountAll(t *testing.T, devices []string, options string) (dir string, unmount func()) {
	t.Helper()
	dir = t.TempDir()
	for _, d := range devices[1:] {
		options += ",device=" + d
	}
	fsreadtest.Run(t, "mount", "-t", "btrfs", "-o", options, devices[0], dir)
	mounted := true
	unmount = func() {
		if mounted {
			mounted = false
			fsreadtest.Run(t, "umount", dir)
		}
	}
	t.Cleanup(unmount)
	return dir, unmount
}

func images(t *testing.T, files []string) (all []image.Image) {
	t.Helper()
	for _, f := range files {
		all = append(all, fsreadtest.OpenFile(t, f))
	}
	return all
}

func TestSeveralDevicesReadAsTheKernelReadsThem(t *testing.T) {
	fsreadtest.Root(t)
	for _, v := range []struct {
		name      string
		devices   int
		mkfs      []string
		redundant bool // one may be missing
	}{
		{"single, metadata mirrored", 2, []string{"-d", "single", "-m", "raid1"}, false},
		{"RAID 0", 3, []string{"-d", "raid0", "-m", "raid0", "-n", "4096"}, false},
		{"RAID 1, three and four copies", 4, []string{"-d", "raid1c3", "-m", "raid1c4"}, true},
		{"RAID 1 on three", 3, []string{"-d", "raid1", "-m", "raid1"}, true},
		{"RAID 10", 4, []string{"-d", "raid10", "-m", "raid10"}, true},
		{"RAID 5", 3, []string{"-d", "raid5", "-m", "raid5"}, true},
		{"RAID 6", 4, []string{"-d", "raid6", "-m", "raid6", "-n", "65536"}, true},
	} {
		t.Run(v.name, func(t *testing.T) {
			var files []string
			for range v.devices {
				files = append(files, fsreadtest.Make(t, 300*mib))
			}
			devices, detach := attach(t, files)
			fsreadtest.Run(t, "mkfs.btrfs", append(append([]string{"-q", "-f"}, v.mkfs...), devices...)...)
			dir, unmount := mountAll(t, devices, "noatime,compress=zstd")
			extra(t, filepath.Join(dir, "extra"))
			unmount()
			all := images(t, files)
			if d, err := btrfs.Identify(all[1]); err != nil || d.Of != uint64(v.devices) || d.UUID == "" {
				t.Errorf("%+v, %v", d, err)
			}
			dir, unmount = mountAll(t, devices, "ro")
			// In any order, and with others between them.
			f, err := btrfs.OpenAll(append(all[1:len(all):len(all)], make(fsreadtest.Mem, mib), all[0]))
			if err != nil {
				t.Fatal(err)
			}
			if a := f.About(); a.Notices != nil {
				t.Errorf("%q", a.Notices)
			}
			fsreadtest.Compare(t, f, dir, nil, nil)
			for gone := range all {
				rest := append(all[:gone:gone], all[gone+1:]...)
				f, err := btrfs.OpenAll(rest)
				if !v.redundant {
					u := &fsread.UnsupportedError{}
					if err == nil {
						err = fsreadtest.List(f, io.Discard)
					}
					if !errors.As(err, &u) || !strings.Contains(u.What, "not among the disks") {
						t.Errorf("without device %d: %v", gone, err)
					}
					continue
				}
				if err != nil {
					t.Errorf("without device %d: %v", gone, err)
					continue
				}
				if n := f.About().Notices; len(n) != 1 || !strings.Contains(n[0], "devices, of which") {
					t.Errorf("without device %d: %q", gone, n)
				}
				if gone == 0 {
					fsreadtest.Compare(t, f, dir, nil, nil)
				}
			}
			unmount()
			detach()
		})
	}
}

// One that missed what came after has other content, with checksums that are right.
func TestADeviceThatWasLeftBehindIsNotRead(t *testing.T) {
	files := []string{fsreadtest.Make(t, 300*mib), fsreadtest.Make(t, 300*mib)}
	devices, detach := attach(t, files)
	fsreadtest.Run(t, "mkfs.btrfs", append([]string{"-q", "-f", "-d", "raid1", "-m", "raid1"}, devices...)...)
	dir, unmount := mountAll(t, devices, "noatime")
	name := filepath.Join(dir, "file")
	if err := os.WriteFile(name, []byte(strings.Repeat("old ", 50_000)), 0o644); err != nil {
		t.Fatal(err)
	}
	unmount()
	old, err := os.ReadFile(files[1])
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // in as many transactions
		dir, unmount = mountAll(t, devices, "noatime")
		if err := os.WriteFile(filepath.Join(dir, "file"), []byte(strings.Repeat("new ", 50_000)), 0o644); err != nil {
			t.Fatal(err)
		}
		unmount()
	}
	detach()
	now := images(t, files)
	for _, order := range [][]image.Image{{now[0], fsreadtest.Mem(old)}, {fsreadtest.Mem(old), now[0]}} {
		f, err := btrfs.OpenAll(order)
		if err != nil {
			t.Fatal(err)
		}
		e, err := f.Lookup(f.Root(), "file")
		if err != nil {
			t.Fatal(err)
		}
		img, err := f.Open(e.ID)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 4)
		if _, err := img.ReadAt(b, 100_000); err != nil || string(b) != "new " {
			t.Errorf("%q, %v", b, err)
		}
		if n := f.About().Notices; len(n) != 2 || !strings.Contains(n[1], "left 1 of its devices behind") {
			t.Errorf("%q", n)
		}
	}
	_, err = btrfs.OpenAll([]image.Image{now[0], now[1], now[1]})
	if u := (&fsread.UnsupportedError{}); !errors.As(err, &u) || !strings.Contains(u.What, "two images") {
		t.Errorf("%v", err)
	}
}
