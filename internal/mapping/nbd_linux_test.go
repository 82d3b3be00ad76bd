package mapping

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/kernel/nbdattach"
)

// needNBD skips where the kernel has no NBD client; the guest that exists for
// these tests must have one.
func needNBD(t *testing.T) {
	t.Helper()
	why := ""
	if os.Geteuid() != 0 {
		why = "needs root"
	} else if _, err := os.Stat("/sys/block/nbd0"); err != nil {
		why = "no nbd driver is loaded: " + err.Error()
	}
	if why == "" {
		return
	}
	if os.Getenv("HOLDFAST_GUEST") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// partitioned is an image with one partition from sector 2048 on.
func partitioned(size int) *memory {
	img := random(size)
	clear(img.b[:512])
	e := img.b[446:]
	e[4] = 0x83
	e[9] = 2048 >> 8
	sectors := size/512 - 2048
	e[12], e[13], e[14] = byte(sectors), byte(sectors>>8), byte(sectors>>16)
	img.b[510], img.b[511] = 0x55, 0xaa
	return img
}

func TestNBDDeviceHasTheBytesOfTheImage(t *testing.T) {
	needNBD(t)
	img := partitioned(8<<20 + 100)
	m := mustMap(t, spec(t, NBD, img))
	r := m.Record()
	got, err := os.ReadFile(r.Device)
	want := append(bytes.Clone(img.b), make([]byte, 412)...) // whole sectors
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes (%v), want %d", len(got), err, len(want))
	}
	eventually(t, "the partition is there", func() bool { _, err := os.Stat(r.Device + "p1"); return err == nil })
	part, err := os.ReadFile(r.Device + "p1")
	if err != nil || !bytes.HasPrefix(part, img.b[1<<20:2<<20]) {
		t.Errorf("partition: %d bytes, %v", len(part), err)
	}
	list, err := List(t.Context(), m.dir)
	if err != nil || len(list) != 1 || list[0].State != Live || list[0].Counters.Reads == 0 {
		t.Errorf("%+v, %v", list, err)
	}
	f, err := os.Open(r.Device + "p1")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "60")
	cmd.ExtraFiles = []*os.File{f}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	_, err = Unmap(t.Context(), m.dir, r.Device+"p1", UnmapOptions{})
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	busy, ok := errors.AsType[*BusyError](err)
	if !ok || len(busy.Holders) == 0 || busy.Holders[0].Node != r.Device+"p1" {
		t.Errorf("unmap while the partition is open: %v", err)
	}
}

func TestNBDDeviceKeepsAFileSystem(t *testing.T) {
	needNBD(t)
	img := newMemory(48 << 20)
	s := spec(t, NBD, img)
	s.ReadOnly = false
	m := mustMap(t, s)
	at := t.TempDir()
	run(t, "mkfs.ext4", "-q", m.Record().Device)
	run(t, "mount", m.Record().Device, at)
	data := random(1 << 20).b
	if err := os.WriteFile(filepath.Join(at, "file"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Unmap(t.Context(), m.dir, m.Record().ID, UnmapOptions{}); err == nil {
		t.Error("unmapped while mounted")
	}
	run(t, "umount", at)
	run(t, "fsck.ext4", "-fn", m.Record().Device)
	if err := m.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := mustMap(t, spec(t, NBD, img))
	run(t, "mount", "-o", "noload", n.Record().Device, at) // the device says that it is read-only
	defer func() { _ = unix.Unmount(at, 0) }()
	if got, err := os.ReadFile(filepath.Join(at, "file")); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestNBDErrorOfTheImageIsAnInputOutputError(t *testing.T) {
	needNBD(t)
	img := random(8 << 20)
	img.bad = 5 << 20
	m := mustMap(t, spec(t, NBD, img))
	fd, err := unix.Open(m.Record().Device, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if _, err := unix.Pread(fd, make([]byte, 4096), 5<<20); !errors.Is(err, unix.EIO) {
		t.Errorf("%v, want EIO", err)
	}
}

func TestNBDKilledDaemonIsCleanedUpFromEveryStage(t *testing.T) {
	needNBD(t)
	for _, stage := range []string{"reserved", "control", "serving", "attached", "nbd", "ready", "serve", "blocked"} {
		t.Run(stage, func(t *testing.T) {
			v := startVictim(t, "/proc/self/exe", filepath.Join(t.TempDir(), "run"), NBD, stage, nil)
			r := v.record(t)
			if stage == "blocked" {
				reader := exec.Command("dd", "if="+r.Device, "of=/dev/null", "bs=64k", "skip=8")
				if err := reader.Start(); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { reaped(t, reader) })
				time.Sleep(50 * time.Millisecond)
			}
			start := time.Now()
			v.kill(t)
			eventually(t, "cleaned up", func() bool {
				_, err := Cleanup(t.Context(), v.dir)
				return err == nil
			})
			empty(t, v.dir)
			eventually(t, "no device is connected", func() bool { all, err := nbdattach.All(); return err == nil && len(all) == 0 })
			t.Logf("gone after %v", time.Since(start))
		})
	}
}

// reaped waits for a process that is to end by itself.
func reaped(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Errorf("%s hangs", cmd.Path)
	}
}

func TestNBDReaderOfAKilledDaemonGetsAnErrorWithoutHelp(t *testing.T) {
	needNBD(t)
	v := startVictim(t, "/proc/self/exe", filepath.Join(t.TempDir(), "run"), NBD, "expiring", nil)
	reader := exec.Command("dd", "if="+v.record(t).Device, "of=/dev/null", "bs=64k", "skip=8")
	if err := reader.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	start := time.Now()
	v.kill(t)
	reaped(t, reader)
	t.Logf("error after %v", time.Since(start))
	eventually(t, "device is free", func() bool { all, err := nbdattach.All(); return err == nil && len(all) == 0 })
	if _, err := Cleanup(t.Context(), v.dir); err != nil {
		t.Error(err)
	}
	empty(t, v.dir)
}

func TestNBDRoundsLeaveNothing(t *testing.T) {
	needNBD(t)
	s := spec(t, NBD, random(1<<20))
	once := func() {
		m, err := Map(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	once()
	fds, goroutines, _ := census(t)
	for range *rounds {
		once()
	}
	empty(t, s.RunDir)
	eventually(t, fmt.Sprintf("no more than %d descriptors and %d goroutines", fds, goroutines), func() bool {
		f, g, _ := census(t)
		return f <= fds && g <= goroutines
	})
}

func TestNBDDisconnectedByHandEndsServe(t *testing.T) {
	needNBD(t)
	m := mustMap(t, spec(t, NBD, random(1<<20)))
	served := make(chan error, 1)
	go func() { served <- m.Serve(t.Context()) }()
	index, err := nbdattach.ParseIndex(m.Record().Device)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := nbdattach.Disconnect(ctx, index); err != nil && !errors.Is(err, nbdattach.ErrBusy) { // this process holds the node
		t.Fatal(err)
	}
	select {
	case err := <-served:
		t.Logf("serve: %v", err)
	case <-time.After(10 * time.Second):
		t.Fatal("still serving")
	}
}
