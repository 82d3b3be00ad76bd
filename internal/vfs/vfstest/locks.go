package vfstest

import (
	"io/fs"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/vfs"
)

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

func rangeLockFollows(t *testing.T, v vfs.FS) {
	put(t, v, "f", "")
	a, err := v.LockRange("f", 0, 0, vfs.Exclusive)
	must(t, err)
	must(t, v.Rename("f", "moved"))
	put(t, v, "f", "another")
	b, err := v.LockRange("f", 0, 0, vfs.Exclusive)
	must(t, err)
	_, err = v.LockRange("moved", 0, 0, vfs.Exclusive)
	wantErr(t, "lock of the renamed file", err, vfs.ErrLocked)
	must(t, a.Unlock())
	must(t, b.Unlock())
}

func unlockTwice(t *testing.T, v vfs.FS) {
	put(t, v, "f", "")
	a, err := v.LockRange("f", 0, 0, vfs.Exclusive)
	must(t, err)
	must(t, a.Unlock())
	wantErr(t, "second unlock", a.Unlock(), vfs.ErrClosed)
}
