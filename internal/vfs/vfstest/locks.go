package vfstest

import (
	"io/fs"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/vfs"
)

func dirLocks(t *testing.T, v vfs.FS) {
	must(t, v.Mkdir("d", 0o755))
	must(t, v.Mkdir("e", 0o755))
	a, err := v.LockDir("d", vfs.Shared, false)
	must(t, err)
	b, err := v.LockDir("d", vfs.Shared, false)
	must(t, err)
	_, err = v.LockDir("d", vfs.Exclusive, false)
	wantErr(t, "exclusive over shared", err, vfs.ErrLocked)
	other, err := v.LockDir("e", vfs.Exclusive, false)
	must(t, err)
	must(t, other.Unlock())
	must(t, a.Unlock())
	_, err = v.LockDir("d", vfs.Exclusive, false)
	wantErr(t, "exclusive over the other shared", err, vfs.ErrLocked)
	must(t, b.Unlock())
	x, err := v.LockDir("d", vfs.Exclusive, false)
	must(t, err)
	for _, mode := range []vfs.LockMode{vfs.Shared, vfs.Exclusive} {
		_, err = v.LockDir("d", mode, false)
		wantErr(t, "over exclusive", err, vfs.ErrLocked)
	}
	put(t, v, "d/f", "a lock is advice: it stops nobody from writing")
	must(t, x.Unlock())
	x, err = v.LockDir("d", vfs.Exclusive, true)
	must(t, err)
	must(t, x.Unlock())
	_, err = v.LockDir("none", vfs.Shared, true)
	wantErr(t, "missing", err, fs.ErrNotExist)
	if _, err = v.LockDir("d/f", vfs.Shared, false); err == nil {
		t.Error("locked a file as a directory")
	}
	root, err := v.LockDir(".", vfs.Exclusive, false)
	must(t, err)
	must(t, root.Unlock())
}

type granted struct {
	u   vfs.Unlocker
	err error
}

// waiter asks for a lock that somebody holds, and gives it time to wait. That
// it waits cannot be seen from outside; too short a time only makes the test
// weaker, not wrong.
func waiter(t *testing.T, v vfs.FS, name string) <-chan granted {
	t.Helper()
	done := make(chan granted, 1)
	go func() {
		u, err := v.LockDir(name, vfs.Exclusive, true)
		done <- granted{u, err}
	}()
	select {
	case g := <-done:
		t.Fatalf("got the lock of another holder: %v", g.err)
	case <-time.After(30 * time.Millisecond):
	}
	return done
}

func dirLockWaits(t *testing.T, v vfs.FS) {
	must(t, v.Mkdir("d", 0o755))
	x, err := v.LockDir("d", vfs.Exclusive, false)
	must(t, err)
	done := waiter(t, v, "d")
	must(t, x.Unlock())
	g := <-done
	must(t, g.err)
	must(t, g.u.Unlock())
}

func dirLockRemoved(t *testing.T, v vfs.FS) {
	must(t, v.Mkdir("d", 0o755))
	x, err := v.LockDir("d", vfs.Exclusive, false)
	must(t, err)
	done := waiter(t, v, "d")
	must(t, v.Remove("d"))
	must(t, x.Unlock())
	wantErr(t, "lock of a removed directory", (<-done).err, fs.ErrNotExist)
}

func dirLockReplaced(t *testing.T, v vfs.FS) {
	must(t, v.Mkdir("d", 0o755))
	must(t, v.Mkdir("new", 0o755))
	x, err := v.LockDir("d", vfs.Exclusive, false)
	must(t, err)
	done := waiter(t, v, "d")
	must(t, v.Rename("d", "old"))
	must(t, v.Rename("new", "d"))
	y, err := v.LockDir("d", vfs.Exclusive, false)
	must(t, err)
	must(t, x.Unlock())
	wantErr(t, "lock of a replaced directory", (<-done).err, fs.ErrNotExist)
	must(t, y.Unlock())
}

func rangeLocks(t *testing.T, v vfs.FS) {
	put(t, v, "f", "")
	lock := func(off, length int64, mode vfs.LockMode) (vfs.Unlocker, error) {
		return v.LockRange("f", off, length, mode)
	}
	a, err := lock(0, 10, vfs.Exclusive)
	must(t, err)
	b, err := lock(10, 10, vfs.Shared)
	must(t, err)
	c, err := lock(15, 100, vfs.Shared)
	must(t, err)
	for _, r := range [][2]int64{{0, 0}, {9, 1}, {0, 1}, {5, 20}, {19, 1}, {114, 0}} {
		_, err := lock(r[0], r[1], vfs.Exclusive)
		wantErr(t, "exclusive overlap", err, vfs.ErrLocked)
	}
	_, err = lock(9, 2, vfs.Shared)
	wantErr(t, "shared over exclusive", err, vfs.ErrLocked)
	rest, err := lock(115, 0, vfs.Exclusive)
	must(t, err)
	must(t, rest.Unlock())
	must(t, b.Unlock())
	_, err = lock(15, 1, vfs.Exclusive)
	wantErr(t, "still shared by the other", err, vfs.ErrLocked)
	d, err := lock(10, 5, vfs.Exclusive)
	must(t, err)
	for _, u := range []vfs.Unlocker{a, c, d} {
		must(t, u.Unlock())
	}
	all, err := lock(0, 0, vfs.Exclusive)
	must(t, err)
	must(t, all.Unlock())
	_, err = lock(-1, 1, vfs.Shared)
	wantErr(t, "negative offset", err, fs.ErrInvalid)
	_, err = lock(0, -1, vfs.Shared)
	wantErr(t, "negative length", err, fs.ErrInvalid)
}

func rangeLockSurvives(t *testing.T, v vfs.FS) {
	put(t, v, "f", "x")
	a, err := v.LockRange("f", 0, 0, vfs.Shared)
	must(t, err)
	get(t, v, "f")
	b, err := v.LockRange("f", 0, 0, vfs.Shared)
	must(t, err)
	must(t, b.Unlock())
	must(t, v.SyncFS())
	_, err = v.LockRange("f", 0, 0, vfs.Exclusive)
	wantErr(t, "exclusive over shared", err, vfs.ErrLocked)
	must(t, a.Unlock())
}

func rangeLockRefused(t *testing.T, v vfs.FS) {
	must(t, v.Mkdir("d", 0o755))
	for _, mode := range []vfs.LockMode{vfs.Shared, vfs.Exclusive} {
		_, err := v.LockRange("none", 0, 0, mode)
		wantErr(t, "missing", err, fs.ErrNotExist)
		_, err = v.LockRange("d", 0, 0, mode)
		wantErr(t, "directory", err, vfs.ErrNotRegular)
	}
}

func unlockTwice(t *testing.T, v vfs.FS) {
	must(t, v.Mkdir("d", 0o755))
	put(t, v, "f", "")
	a, err := v.LockDir("d", vfs.Exclusive, false)
	must(t, err)
	b, err := v.LockRange("f", 0, 0, vfs.Exclusive)
	must(t, err)
	for _, u := range []vfs.Unlocker{a, b} {
		must(t, u.Unlock())
		wantErr(t, "second unlock", u.Unlock(), vfs.ErrClosed)
	}
}
