package vfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// both runs a test with openat2 and with the walk that replaces it.
func both(t *testing.T, test func(t *testing.T, o *OS)) {
	for _, old := range []bool{false, true} {
		name := "openat2"
		if old {
			name = "walk"
		}
		t.Run(name, func(t *testing.T) {
			o, err := OpenOS(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer o.Close()
			if !old && o.noBelow2 {
				t.Log("this kernel has no openat2; the walk is tested twice")
			}
			o.noBelow2 = o.noBelow2 || old
			test(t, o)
		})
	}
}

func TestSymbolicLinksLeadNowhere(t *testing.T) {
	both(t, func(t *testing.T, o *OS) {
		outside := t.TempDir()
		if err := os.WriteFile(filepath.Join(outside, "f"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		for name, target := range map[string]string{"out": outside, "file": filepath.Join(outside, "f"), "here": "."} {
			if err := os.Symlink(target, filepath.Join(o.Dir(), name)); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{"out/f", "file", "here/file", "out", "here"} {
			if f, err := o.Open(name); err == nil {
				f.Close()
				t.Errorf("opened %s", name)
			}
		}
		if _, err := o.Open("file"); !errors.Is(err, ErrNotRegular) {
			t.Errorf("link where a file should be: %v", err)
		}
		if _, err := o.Create("out/new", 0o600); err == nil {
			t.Error("created a file behind a link")
		}
		if err := o.Remove("out/f"); err == nil {
			t.Error("removed a file behind a link")
		}
		if _, err := o.ReadDir("out"); err == nil {
			t.Error("listed a directory behind a link")
		}
		if info, err := o.Lstat("file"); err != nil || info.Mode.Type() != fs.ModeSymlink {
			t.Errorf("lstat of a link: %v, %v", info.Mode, err)
		}
		if err := o.Touch("file"); err != nil {
			t.Errorf("touch of a link: %v", err)
		}
		if err := o.Remove("file"); err != nil {
			t.Errorf("remove a link: %v", err)
		}
		if _, err := os.Lstat(filepath.Join(outside, "f")); err != nil {
			t.Error("removing a link removed its target")
		}
	})
}

func TestFifoDoesNotBlockOpen(t *testing.T) {
	both(t, func(t *testing.T, o *OS) {
		if err := syscall.Mkfifo(filepath.Join(o.Dir(), "pipe"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := o.Open("pipe"); !errors.Is(err, ErrNotRegular) {
			t.Fatalf("err = %v, want ErrNotRegular", err)
		}
	})
}

func TestHintsKeepNoDescriptorsAndDoNotBlock(t *testing.T) {
	both(t, func(t *testing.T, o *OS) {
		if err := syscall.Mkfifo(filepath.Join(o.Dir(), "pipe"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(o.Dir(), "f"), make([]byte, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		before := openDescriptors(t)
		for range 10 {
			for _, name := range []string{"f", "pipe", ".", "none"} {
				o.WillNeed(name)
			}
		}
		if after := openDescriptors(t); after > before {
			t.Errorf("%d descriptors before, %d after", before, after)
		}
	})
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestUmaskDoesNotChangePermissions(t *testing.T) {
	both(t, func(t *testing.T, o *OS) {
		defer syscall.Umask(syscall.Umask(0o077))
		f, err := o.Create("f", 0o664)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		if err := o.Mkdir("d", 0o775); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]fs.FileMode{"f": 0o664, "d": 0o775 | fs.ModeDir} {
			if info, err := o.Lstat(name); err != nil || info.Mode != want {
				t.Errorf("%s: mode %v, %v; want %v", name, info.Mode, err, want)
			}
		}
	})
}

func TestRangeLockConflictsWithRecordLocksOfOtherPrograms(t *testing.T) {
	both(t, func(t *testing.T, o *OS) {
		f, err := o.Create(".lock", 0o644)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		// A record lock belongs to the process, an open-file-description lock
		// does not: to the latter, this process is another program.
		other, err := os.OpenFile(filepath.Join(o.Dir(), ".lock"), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		record := syscall.Flock_t{Type: syscall.F_RDLCK}
		if err := syscall.FcntlFlock(other.Fd(), syscall.F_SETLK, &record); err != nil {
			t.Fatal(err)
		}
		if _, err := o.LockRange(".lock", 0, 0, Exclusive); !errors.Is(err, ErrLocked) {
			t.Fatalf("exclusive over a foreign shared lock: %v", err)
		}
		shared, err := o.LockRange(".lock", 0, 0, Shared)
		if err != nil {
			t.Fatal(err)
		}
		record.Type = syscall.F_WRLCK
		if err := syscall.FcntlFlock(other.Fd(), syscall.F_SETLK, &record); err == nil {
			t.Fatal("a foreign exclusive lock was granted over ours")
		}
		if err := shared.Unlock(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestErrorsTellNoLocksFromLocked(t *testing.T) {
	if err := lockError(syscall.EBADF); !errors.Is(err, ErrNoLocks) || !errors.Is(err, syscall.EBADF) {
		t.Errorf("EBADF: %v", err)
	}
	if err := lockError(syscall.EAGAIN); !errors.Is(err, ErrLocked) {
		t.Errorf("EAGAIN: %v", err)
	}
	if err := lockError(syscall.EIO); errors.Is(err, ErrLocked) || errors.Is(err, ErrNoLocks) {
		t.Errorf("EIO: %v", err)
	}
}

func TestRootLeavesFilesToTheOwnerOfTheDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	dir := t.TempDir()
	if err := os.Chown(dir, 34, 35); err != nil {
		t.Fatal(err)
	}
	o, err := OpenOS(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	f, err := o.Create("file", 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Close(), o.Mkdir("sub", 0o750)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"file", "sub"} {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		st := info.Sys().(*syscall.Stat_t)
		if st.Uid != 34 || st.Gid != 35 {
			t.Errorf("%s belongs to %d:%d, want 34:35 as its directory", name, st.Uid, st.Gid)
		}
	}
}
