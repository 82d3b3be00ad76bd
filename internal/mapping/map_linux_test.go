package mapping

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/kernel/loop"
)

var rounds = flag.Int("rounds", 50, "map and unmap so often")

func spec(t testing.TB, mode Mode, img *memory) Spec {
	return Spec{
		Repository: "root@pam@host:store", Snapshot: "vm/100", Archive: "drive-scsi0.img.fidx",
		Image: img, Mode: mode, RunDir: t.TempDir(), ReadOnly: true,
	}
}

func mustMap(t testing.TB, s Spec) *Mapping {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	m, err := Map(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(context.Background()); err != nil {
			t.Error(err)
		}
		empty(t, s.RunDir)
	})
	return m
}

func empty(t testing.TB, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("left behind: %s", e.Name())
	}
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		missing(t, err.Error())
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func TestMappedDeviceHasTheBytesOfTheImage(t *testing.T) {
	needLoop(t)
	img := random(20<<20 + 512)
	m := mustMap(t, spec(t, Loop, img))
	got, err := os.ReadFile(m.Record().Device)
	if err != nil || !bytes.Equal(got, img.b) {
		t.Fatalf("%d bytes (%v), want %d", len(got), err, len(img.b))
	}
	if err := os.WriteFile(m.Record().Device, []byte("x"), 0); !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EPERM) {
		t.Errorf("writing a read-only mapping: %v", err)
	}
	list, err := List(t.Context(), m.dir)
	if err != nil || len(list) != 1 || list[0].State != Live || list[0].Counters.ReadBytes < m.rec.Size {
		t.Errorf("list: %+v, %v", list, err)
	}
	s, err := loop.Read(m.rec.Loop.Number)
	if err != nil || !s.ReadOnly || !s.AutoClear || !s.PartScan || !s.DirectIO {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestMappedFileHasTheBytesOfTheImage(t *testing.T) {
	needLoop(t)
	img := random(5<<20 + 100)
	m := mustMap(t, spec(t, File, img))
	// A process of its own reads: see the traps of package fusefile.
	want := filepath.Join(t.TempDir(), "want")
	if err := os.WriteFile(want, img.b, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "cmp", want, m.Record().Path)
}

func TestFileSystemsMountFromAMapping(t *testing.T) {
	needLoop(t)
	for _, fs := range []struct {
		kind, mkfs, options string
		args                []string
		size                int64
	}{
		{"ext4", "mkfs.ext4", "ro,noload", []string{"-q", "-F", "-d"}, 32 << 20},
		{"xfs", "mkfs.xfs", "ro,norecovery,nouuid", nil, 320 << 20},
		{"btrfs", "mkfs.btrfs", "ro", []string{"-q", "-r"}, 128 << 20},
	} {
		t.Run(fs.kind, func(t *testing.T) {
			tree, raw, at := t.TempDir(), filepath.Join(t.TempDir(), "raw"), t.TempDir()
			for i := range 20 {
				name := filepath.Join(tree, fmt.Sprintf("d%d", i%3), fmt.Sprintf("f%d", i))
				if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(name, random(i*10000+1).b, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(raw, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(raw, fs.size); err != nil {
				t.Fatal(err)
			}
			args := fs.args
			if args != nil {
				args = append(slices.Clone(args), tree)
			}
			run(t, fs.mkfs, append(args, raw)...)
			if args == nil { // fill it by hand
				run(t, "mount", "-o", "loop", raw, at)
				run(t, "cp", "-a", tree+"/.", at)
				run(t, "umount", at)
			}
			b, err := os.ReadFile(raw)
			if err != nil {
				t.Fatal(err)
			}
			img := newMemory(0)
			img.b = b
			m := mustMap(t, spec(t, Loop, img))
			run(t, "mount", "-t", fs.kind, "-o", fs.options, m.Record().Device, at)
			mounted := true
			t.Cleanup(func() {
				if mounted {
					_ = unix.Unmount(at, unix.MNT_DETACH)
				}
			})
			run(t, "diff", "-r", "-x", "lost+found", tree, at)
			_, err = Unmap(t.Context(), m.dir, "drive-scsi0.img", UnmapOptions{})
			busy, ok := errors.AsType[*BusyError](err)
			if !ok || len(busy.Holders) == 0 || busy.Holders[0].Kind != "mount" || busy.Holders[0].Where != at {
				t.Fatalf("unmap while mounted: %v", err)
			}
			run(t, "umount", at)
			mounted = false
		})
	}
}

func TestWritableDeviceKeepsAFileSystem(t *testing.T) {
	needLoop(t)
	img := newMemory(64 << 20)
	s := spec(t, Loop, img)
	s.ReadOnly = false
	m := mustMap(t, s)
	at := t.TempDir()
	run(t, "mkfs.ext4", "-q", m.Record().Device)
	run(t, "mount", m.Record().Device, at)
	data := random(3 << 20).b
	if err := os.WriteFile(filepath.Join(at, "file"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "umount", at)
	run(t, "fsck.ext4", "-fn", m.Record().Device)
	if err := m.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if img.flushes == 0 {
		t.Error("never flushed")
	}
	again := spec(t, Loop, img)
	n := mustMap(t, again)
	run(t, "mount", "-o", "ro", n.Record().Device, at)
	defer func() { _ = unix.Unmount(at, 0) }()
	if got, err := os.ReadFile(filepath.Join(at, "file")); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestDamagedChunkIsAnInputOutputError(t *testing.T) {
	needLoop(t)
	img := random(8 << 20)
	img.bad = 5 << 20
	m := mustMap(t, spec(t, Loop, img))
	f, err := unix.Open(m.Record().Device, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(f) }()
	b := make([]byte, 4096)
	if _, err := unix.Pread(f, b, 5<<20); !errors.Is(err, unix.EIO) {
		t.Errorf("damaged: %v, want EIO", err)
	}
	if _, err := unix.Pread(f, b, 1<<20); err != nil || !bytes.Equal(b, img.b[1<<20:1<<20+4096]) {
		t.Errorf("beside it: %v", err)
	}
	if m.Counters().Errors == 0 {
		t.Error("not counted")
	}
}

func TestOneOfManyMapsOfANameWins(t *testing.T) {
	for _, mode := range []Mode{Socket, Loop} {
		t.Run(string(mode), func(t *testing.T) {
			if mode == Loop {
				needLoop(t)
			}
			s := spec(t, mode, random(1<<20))
			var won, lost atomic.Int32
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					m, err := Map(t.Context(), s)
					if err != nil {
						if _, ok := errors.AsType[*MappedError](err); !ok {
							t.Error(err)
						}
						lost.Add(1)
						return
					}
					won.Add(1)
					t.Cleanup(func() { _ = m.Close(context.Background()) })
				})
			}
			wg.Wait()
			if won.Load() != 1 || lost.Load() != 7 {
				t.Errorf("%d won, %d lost", won.Load(), lost.Load())
			}
			_, err := Map(t.Context(), s)
			taken, ok := errors.AsType[*MappedError](err)
			if !ok || taken.Record.Target() == "" || !taken.Record.Ready {
				t.Errorf("second map: %v", err)
			}
		})
	}
}

func TestUnmapEndsServe(t *testing.T) {
	for _, mode := range []Mode{Socket, Loop, File} {
		t.Run(string(mode), func(t *testing.T) {
			if mode != Socket {
				needLoop(t)
			}
			s := spec(t, mode, random(1<<20))
			m, err := Map(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan error, 1)
			go func() {
				err := m.Serve(context.Background())
				served <- errors.Join(err, m.Close(context.Background()))
			}()
			if _, err := Unmap(t.Context(), s.RunDir, m.Record().Target(), UnmapOptions{}); err != nil {
				t.Error(err)
			}
			select {
			case err := <-served:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("still serving")
			}
			empty(t, s.RunDir)
		})
	}
}

func TestUnmapRefusesWhatIsOpen(t *testing.T) {
	needLoop(t)
	m := mustMap(t, spec(t, Loop, random(1<<20)))
	cmd := exec.Command("sleep", "60")
	f, err := os.Open(m.Record().Device)
	if err != nil {
		t.Fatal(err)
	}
	cmd.ExtraFiles = []*os.File{f}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	_, err = Unmap(t.Context(), m.dir, m.Record().ID, UnmapOptions{})
	busy, ok := errors.AsType[*BusyError](err)
	if !ok || len(busy.Holders) != 1 || busy.Holders[0].PID != cmd.Process.Pid || busy.Holders[0].Command != "sleep" {
		t.Fatalf("%v", err)
	}
	go func() { _ = m.Serve(context.Background()); _ = m.Close(context.Background()) }()
	if _, err := Unmap(t.Context(), m.dir, m.Record().ID, UnmapOptions{Force: true}); err != nil {
		t.Errorf("force: %v", err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	eventually(t, "device is free", func() bool { _, err := loop.Read(m.rec.Loop.Number); return errors.Is(err, loop.ErrFree) })
}

func TestUnmapLeavesForeignDevicesAlone(t *testing.T) {
	needLoop(t)
	raw := filepath.Join(t.TempDir(), "raw")
	if err := os.WriteFile(raw, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(raw, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	d, err := loop.Attach(t.Context(), fd, loop.Options{Number: loop.AnyNumber, AutoClear: true, Name: "foreign"})
	_ = unix.Close(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	dir := t.TempDir()
	_, err = Unmap(t.Context(), dir, d.Path(), UnmapOptions{Force: true})
	if !errors.Is(err, ErrNotMapped) || !strings.Contains(err.Error(), "foreign") {
		t.Errorf("%v", err)
	}
	if _, err := loop.Read(d.Number()); err != nil {
		t.Errorf("it is gone: %v", err)
	}
	if _, err := Unmap(t.Context(), dir, "nothing", UnmapOptions{}); !errors.Is(err, ErrNotMapped) {
		t.Errorf("%v", err)
	}
}

// census counts what a mapping could leave.
func census(t testing.TB) (fds, goroutines, loops int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		number, err := loop.ParseNumber("/dev/" + strings.Split(n, "/")[3])
		if err != nil {
			continue
		}
		if s, err := loop.Read(number); err == nil && strings.HasPrefix(s.Name, "holdfast ") {
			loops++
		}
	}
	return len(entries), runtime.NumGoroutine(), loops
}

func TestRoundsLeaveNothing(t *testing.T) {
	for _, mode := range []Mode{Socket, File, Loop} {
		t.Run(string(mode), func(t *testing.T) {
			if mode != Socket {
				needLoop(t)
			}
			s := spec(t, mode, random(1<<20))
			once := func() {
				m, err := Map(t.Context(), s)
				if err != nil {
					t.Fatal(err)
				}
				if mode == Loop {
					b := make([]byte, 512)
					fd, err := unix.Open(m.Record().Device, unix.O_RDONLY|unix.O_CLOEXEC, 0)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := unix.Pread(fd, b, 0); err != nil {
						t.Fatal(err)
					}
					_ = unix.Close(fd)
				}
				if err := m.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			once() // the runtime's own descriptors
			fds, goroutines, loops := census(t)
			start := time.Now()
			for range *rounds {
				once()
			}
			t.Logf("%v a round", time.Since(start)/time.Duration(*rounds))
			empty(t, s.RunDir)
			eventually(t, fmt.Sprintf("no more than %d descriptors, %d goroutines, %d loop devices", fds, goroutines, loops), func() bool {
				f, g, l := census(t)
				return f <= fds && g <= goroutines && l <= loops
			})
		})
	}
}

// anyoneMayUseFUSE gives /dev/fuse the mode that udev gives it, where it has
// another.
func anyoneMayUseFUSE(t *testing.T) {
	st, err := os.Stat("/dev/fuse")
	if err != nil {
		missing(t, err.Error())
	}
	if st.Mode().Perm()&0o006 == 0o006 {
		return
	}
	if err := os.Chmod("/dev/fuse", 0o666); err != nil { //nolint:gosec // as everywhere
		missing(t, err.Error())
	}
	t.Cleanup(func() { _ = os.Chmod("/dev/fuse", st.Mode().Perm()) })
}

func TestNobodyServesASocketWithoutPrivileges(t *testing.T) {
	if os.Geteuid() != 0 {
		missing(t, "needs root to become nobody")
	}
	dir, err := os.MkdirTemp("/tmp", "mapnobody")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(dir, "test")
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(exe, b, 0o755); err != nil { //nolint:gosec // to be run by somebody else
		t.Fatal(err)
	}
	for _, mode := range []Mode{Socket, File} {
		t.Run(string(mode), func(t *testing.T) {
			if mode == File {
				if _, err := exec.LookPath("fusermount3"); err != nil {
					missing(t, err.Error())
				}
				anyoneMayUseFUSE(t)
			}
			v := startVictim(t, exe, filepath.Join(dir, "run-"+string(mode)), mode, "serve", &syscall.Credential{Uid: 65534, Gid: 65534})
			if mode == Socket {
				nc, err := net.Dial("unix", v.record(t).Socket)
				if err != nil {
					t.Fatal(err)
				}
				b := make([]byte, 8)
				if _, err := nc.Read(b); err != nil || string(b) != "NBDMAGIC" {
					t.Errorf("%q, %v", b, err)
				}
				_ = nc.Close()
			} else {
				c := exec.CommandContext(t.Context(), "head", "-c", "4096", v.record(t).Path)
				c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
				if out, err := c.Output(); err != nil || !bytes.Equal(out, random(1 << 20).b[:4096]) {
					t.Errorf("%d bytes, %v", len(out), err)
				}
			}
			eventually(t, "nobody is connected", func() bool {
				_, err := Unmap(t.Context(), v.dir, v.record(t).ID, UnmapOptions{})
				if err != nil {
					t.Log(err)
				}
				return err == nil
			})
			v.wait(t)
			empty(t, v.dir)
		})
	}
}
