package target_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/image/target"
	"github.com/holdfast-backup/holdfast/internal/kernel/blockdev"
)

// need skips where a test cannot run, except in CI for tools, which can be
// installed there.
func need(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// loop makes a loop device with this content.
func loop(t *testing.T, content []byte, args ...string) (device, file string) {
	t.Helper()
	need(t, "losetup")
	if os.Getuid() != 0 {
		t.Skip("loop devices need root")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skip("no loop devices: ", err)
	}
	file = filepath.Join(t.TempDir(), "backing")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	device = run(t, "losetup", append([]string{"--find", "--show", file}, args...)...)
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", device).CombinedOutput(); err != nil {
			t.Errorf("detach %s: %v\n%s", device, err, out)
		}
	})
	return device, file
}

func TestBlockDeviceInPlace(t *testing.T) {
	for _, args := range [][]string{nil, {"--sector-size", "4096"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			want := random(8 * mib)
			device, file := loop(t, want, args...)
			size := int64(5*mib + 100) // smaller than the device, and odd
			f, err := target.OpenExisting(device, size)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			change(t, f, want[:size])
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			src, err := image.OpenFile(device, image.FileOptions{Sequential: true})
			if err != nil {
				t.Fatal(err)
			}
			defer src.Close()
			got := make([]byte, len(want))
			if _, err := src.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) || src.Size() != int64(len(want)) || !src.IsDevice() {
				t.Errorf("the device differs: %v", err)
			}
			run(t, "sync", device)
			run(t, "blockdev", "--flushbufs", device)
			if b, err := os.ReadFile(file); err != nil || !bytes.Equal(b, want) {
				t.Errorf("the file behind the device differs: %v", err)
			}
		})
	}
}

func TestZeroOnABlockDeviceReleasesSpace(t *testing.T) {
	device, file := loop(t, random(8*mib))
	f, err := target.OpenExisting(device, 8*mib)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Zero(0, 8*mib); err != nil {
		t.Fatal(err)
	}
	if err := f.Finish(); err != nil {
		t.Fatal(err)
	}
	if out := run(t, "stat", "-c", "%b", file); out != "0" {
		t.Errorf("the file behind the device still has %s blocks", out)
	}
}

func TestSmallerBlockDeviceIsRefusedWithSizes(t *testing.T) {
	device, _ := loop(t, make([]byte, mib))
	_, err := target.OpenExisting(device, mib+1)
	if err == nil || !strings.Contains(err.Error(), "1048576") || !strings.Contains(err.Error(), "1048577") {
		t.Errorf("err = %v, want both sizes", err)
	}
	if _, err := target.Create(device, mib, target.Options{Overwrite: true}); err == nil || !strings.Contains(err.Error(), "in place") {
		t.Errorf("a new file in place of a device: %v", err)
	}
}

func TestReadOnlyBlockDeviceIsRefused(t *testing.T) {
	device, _ := loop(t, make([]byte, mib), "--read-only")
	if _, err := target.OpenExisting(device, mib); err == nil || !strings.Contains(err.Error(), "read-only") && !strings.Contains(err.Error(), "no permission") {
		t.Errorf("err = %v", err)
	}
}

func TestMountedBlockDeviceIsRefused(t *testing.T) {
	need(t, "mkfs.ext4", "mount", "umount")
	device, _ := loop(t, make([]byte, 16*mib))
	run(t, "mkfs.ext4", "-q", device)
	dir := t.TempDir()
	run(t, "mount", device, dir)
	_, err := target.OpenExisting(device, 16*mib)
	run(t, "umount", dir)
	if !errors.Is(err, target.ErrBusy) || !strings.Contains(err.Error(), "unmount") {
		t.Errorf("mounted: %v", err)
	}
	f, err := target.OpenExisting(device, 16*mib)
	if err != nil {
		t.Fatalf("unmounted: %v", err)
	}
	defer f.Close()
	if out, err := exec.Command("mount", device, dir).CombinedOutput(); err == nil {
		run(t, "umount", dir)
		t.Errorf("a device that is being restored can be mounted: %s", out)
	}
}

func TestFileInUseByQEMUIsRefusedAndTheOtherWayRound(t *testing.T) {
	need(t, "qemu-io", "qemu-img")
	path := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(path, make([]byte, mib), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := target.OpenExisting(path, mib)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out, err := exec.Command("qemu-io", "-f", "raw", "-c", "write 0 512", path).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "lock") {
		t.Errorf("QEMU opens an image that is being restored: %v, %s", err, out)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}

	qemu := exec.Command("qemu-io", "-f", "raw", path)
	in, err := qemu.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	answer, err := qemu.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := qemu.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = qemu.Wait() }()
	defer in.Close()
	if _, err := in.Write([]byte("length\n")); err != nil {
		t.Fatal(err)
	}
	var said []byte
	for b := make([]byte, 64); !bytes.Contains(said, []byte("1 MiB")); { // then it has the file open
		n, err := answer.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		said = append(said, b[:n]...)
	}
	if _, err := target.OpenExisting(path, mib); !errors.Is(err, target.ErrBusy) {
		t.Errorf("an image that QEMU has open: %v", err)
	}
}

func TestInspectReportsTheDevice(t *testing.T) {
	device, _ := loop(t, make([]byte, mib), "--sector-size", "4096")
	f, err := os.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	g, err := blockdev.Inspect(f)
	if err != nil || g.Size != mib || g.LogicalBlock != 4096 || g.PhysicalBlock < 4096 || g.ReadOnly {
		t.Errorf("geometry %+v, %v", g, err)
	}
	if _, err := blockdev.Inspect(os.Stdin); err == nil {
		t.Error("standard input is a block device")
	}
}

func TestFullFileSystemSaysSo(t *testing.T) {
	need(t, "mount", "umount")
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	run(t, "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", dir)
	t.Cleanup(func() { _ = exec.Command("umount", dir).Run() })
	f, err := target.Create(filepath.Join(dir, "disk.raw"), 8*mib, target.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(random(4*mib), 0)
	if err == nil || !strings.Contains(err.Error(), "make room") {
		t.Errorf("err = %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if n := names(t, dir); len(n) != 0 {
		t.Errorf("left behind: %v", n)
	}
}
