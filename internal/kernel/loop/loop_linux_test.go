package loop

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func needLoop(t *testing.T) {
	t.Helper()
	why := ""
	if os.Geteuid() != 0 {
		why = "needs root"
	} else if _, err := os.Stat("/dev/loop-control"); err != nil {
		why = err.Error()
	}
	if why == "" {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func open(t *testing.T, size int64) int {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if _, err := unix.Pwrite(fd, []byte("HOLDFAST"), 0); err != nil {
		t.Fatal(err)
	}
	return fd
}

func TestAttach(t *testing.T) {
	needLoop(t)
	for _, tc := range []struct {
		name string
		o    Options
		want Status
	}{
		{"read-only", Options{ReadOnly: true, AutoClear: true, PartScan: true, Name: "a name"}, Status{ReadOnly: true, AutoClear: true, PartScan: true, Name: "a name"}},
		{"writable", Options{AutoClear: true, BlockSize: 4096}, Status{AutoClear: true}},
		{"in two steps", Options{ReadOnly: true, AutoClear: true, PartScan: true, Name: "old", twoSteps: true}, Status{ReadOnly: true, AutoClear: true, PartScan: true, Name: "old"}},
		{"direct", Options{ReadOnly: true, DirectIO: true, ReadAhead: 1 << 20}, Status{ReadOnly: true, DirectIO: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.o.Number = AnyNumber
			d, err := Attach(t.Context(), open(t, 1<<20), tc.o)
			if err != nil {
				t.Fatal(err)
			}
			s, err := d.Status()
			if err != nil {
				t.Fatal(err)
			}
			tc.want.Number, tc.want.BackingDevice, tc.want.BackingInode = d.Number(), s.BackingDevice, s.BackingInode
			if tc.want.DirectIO != s.DirectIO {
				t.Logf("direct I/O is %v: the file system decides", s.DirectIO)
				tc.want.DirectIO = s.DirectIO
			}
			if s != tc.want || s.BackingInode == 0 {
				t.Errorf("got  %+v\nwant %+v", s, tc.want)
			}
			if n, err := Size(d.Number()); err != nil || n != 1<<20 {
				t.Errorf("size %d, %v", n, err)
			}
			if p, err := Partitions(d.Number()); err != nil || len(p) != 0 {
				t.Errorf("partitions %q, %v", p, err)
			}
			b, err := os.ReadFile(d.Path())
			if err != nil || !bytes.HasPrefix(b, []byte("HOLDFAST")) {
				t.Errorf("%.8q, %v", b, err)
			}
			if err := d.Detach(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if _, err := Read(d.Number()); !errors.Is(err, ErrFree) {
				t.Errorf("after detach: %v", err)
			}
		})
	}
}

func TestManyAttachAtOnce(t *testing.T) {
	needLoop(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[int]bool{}
	for range 6 {
		fd := open(t, 1<<16)
		wg.Go(func() {
			d, err := Attach(t.Context(), fd, Options{Number: AnyNumber, AutoClear: true})
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { _ = d.Close() })
			mu.Lock()
			defer mu.Unlock()
			if seen[d.Number()] {
				t.Errorf("%s twice", d.Path())
			}
			seen[d.Number()] = true
		})
	}
	wg.Wait()
}

func TestMissingNodeIsMade(t *testing.T) {
	needLoop(t)
	d, err := Attach(t.Context(), open(t, 1<<16), Options{Number: AnyNumber, AutoClear: true})
	if err != nil {
		t.Fatal(err)
	}
	path := d.Path()
	_ = d.Close()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".aside"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.Rename(path+".aside", path) }()
	e, err := Attach(t.Context(), open(t, 1<<16), Options{Number: d.Number(), AutoClear: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

func TestUsedDeviceIsBusyAndFreedByItsLastClose(t *testing.T) {
	needLoop(t)
	d, err := Attach(t.Context(), open(t, 1<<16), Options{Number: AnyNumber})
	if err != nil {
		t.Fatal(err)
	}
	s, err := d.Status()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Attach(t.Context(), open(t, 1<<16), Options{Number: d.Number()}); !errors.Is(err, unix.EBUSY) {
		t.Errorf("second attach: %v", err)
	}
	user, err := unix.Open(d.Path(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, ok := errors.AsType[*BusyError](Clear(ctx, s)); !ok {
		t.Error("clearing a device that is open succeeded")
	}
	if err := unix.Close(user); err != nil {
		t.Fatal(err)
	}
	if err := Clear(t.Context(), s); err != nil {
		t.Errorf("after its last close: %v", err)
	}
}

func TestClearLeavesAnotherAttachmentAlone(t *testing.T) {
	needLoop(t)
	d, err := Attach(t.Context(), open(t, 1<<16), Options{Number: AnyNumber, AutoClear: true, Name: "new"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	was, err := d.Status()
	if err != nil {
		t.Fatal(err)
	}
	was.Name = "old"
	if err := Clear(t.Context(), was); err != nil {
		t.Error(err)
	}
	if _, err := Read(d.Number()); err != nil {
		t.Errorf("it is gone: %v", err)
	}
}

func TestParseNumber(t *testing.T) {
	for in, want := range map[string]int{"/dev/loop0": 0, "/dev/loop256": 256, "/dev/loop3p12": 3, "7": 7} {
		if n, err := ParseNumber(in); err != nil || n != want {
			t.Errorf("%s: %d, %v", in, n, err)
		}
	}
	for _, bad := range []string{"", "/dev/sda", "loop", "/dev/loop", "-1", "/dev/loop-control", "99999999"} {
		if n, err := ParseNumber(bad); err == nil {
			t.Errorf("%q: %d", bad, n)
		}
	}
}
