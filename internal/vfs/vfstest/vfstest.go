// Package vfstest holds every implementation of vfs.FS to the promises of
// package vfs, apart from durability, which only a simulated disk can show.
package vfstest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// Run tests a file system; open returns a new, empty one.
func Run(t *testing.T, open func(t *testing.T) vfs.FS) {
	for _, tc := range []struct {
		name string
		test func(t *testing.T, v vfs.FS)
	}{
		{"file keeps what was written", written},
		{"file written at an offset has zeros before it", sparse},
		{"truncate cuts and extends with zeros", truncated},
		{"create refuses an existing name", created},
		{"permissions are exact", permissions},
		{"only regular files open", regular},
		{"file opened for reading refuses to write", readOnly},
		{"rename replaces a file in one step", renamed},
		{"rename refuses what it cannot replace", renameRefused},
		{"remove takes files and empty directories", removed},
		{"removed file stays readable for who has it open", orphan},
		{"directory lists sorted with types", listed},
		{"big directory lists completely", bigDirectory},
		{"illegal names are refused", illegalNames},
		{"missing parents are missing", missingParents},
		{"touch moves the access time only", touched},
		{"sync of everything works", synced},
		{"range locks exclude by overlap", rangeLocks},
		{"range lock survives other uses of the file", rangeLockSurvives},
		{"range lock on a missing file or a directory is refused", rangeLockRefused},
		{"range lock is on the file and not on its name", rangeLockFollows},
		{"lock is released once", unlockTwice},
		{"hint changes nothing, whatever it names", hinted},
		{"usage is plausible", usage},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.test(t, open(t)) })
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: err = %v, want %v", what, err, want)
	}
}

func put(t *testing.T, v vfs.FS, name, content string) {
	t.Helper()
	f, err := v.Create(name, 0o644)
	must(t, err)
	_, err = f.Write([]byte(content))
	must(t, err)
	must(t, f.Close())
}

func get(t *testing.T, v vfs.FS, name string) string {
	t.Helper()
	f, err := v.Open(name)
	must(t, err)
	defer f.Close()
	return all(t, f)
}

func all(t *testing.T, f vfs.File) string {
	t.Helper()
	size, err := f.Size()
	must(t, err)
	b := make([]byte, size+1)
	n, err := f.ReadAt(b, 0)
	if err != io.EOF || int64(n) != size {
		t.Fatalf("read of one byte more than the size: %d of %d, %v; want EOF", n, size, err)
	}
	return string(b[:n])
}

func written(t *testing.T, v vfs.FS) {
	f, err := v.Create("f", 0o600)
	must(t, err)
	for _, s := range []string{"one ", "two ", strings.Repeat("three", 3000)} {
		n, err := f.Write([]byte(s))
		if n != len(s) || err != nil {
			t.Fatalf("write: %d, %v", n, err)
		}
	}
	_, err = f.WriteAt([]byte("TWO"), 4)
	must(t, err)
	_, err = f.Write([]byte("end"))
	must(t, err)
	f.StartWriteback()
	must(t, f.Sync())
	want := "one TWO " + strings.Repeat("three", 3000) + "end"
	if got := all(t, f); got != want {
		t.Errorf("own handle reads %d bytes, want %d", len(got), len(want))
	}
	must(t, f.Close())
	if got := get(t, v, "f"); got != want {
		t.Errorf("another handle reads %d bytes, want %d", len(got), len(want))
	}
	if _, err := f.Write([]byte("x")); err == nil {
		t.Error("a closed file took a write")
	}
	wantErr(t, "second close", f.Close(), fs.ErrClosed)
}

func sparse(t *testing.T, v vfs.FS) {
	f, err := v.Create("f", 0o600)
	must(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte("x"), 100_000)
	must(t, err)
	if got, want := all(t, f), string(make([]byte, 100_000))+"x"; got != want {
		t.Errorf("reads %d bytes, want zeros and x", len(got))
	}
	b := make([]byte, 10)
	if n, err := f.ReadAt(b, 200_000); n != 0 || err != io.EOF {
		t.Errorf("read after the end: %d, %v", n, err)
	}
	if n, err := f.ReadAt(nil, 0); n != 0 || err != nil {
		t.Errorf("read of nothing: %d, %v", n, err)
	}
	if _, err := f.ReadAt(b, -1); err == nil {
		t.Error("read at a negative offset")
	}
	if _, err := f.WriteAt(b, -1); err == nil {
		t.Error("wrote at a negative offset")
	}
}

func truncated(t *testing.T, v vfs.FS) {
	f, err := v.Create("f", 0o600)
	must(t, err)
	defer f.Close()
	_, err = f.Write(bytes.Repeat([]byte("ab"), 5000))
	must(t, err)
	must(t, f.Truncate(5))
	must(t, f.Truncate(9000))
	if got, want := all(t, f), "ababa"+string(make([]byte, 8995)); got != want {
		t.Errorf("what was cut came back: %q…", got[:10])
	}
	must(t, f.Truncate(0))
	if got := all(t, f); got != "" {
		t.Errorf("%d bytes left", len(got))
	}
	if err := f.Truncate(-1); err == nil {
		t.Error("truncated to a negative size")
	}
}

func created(t *testing.T, v vfs.FS) {
	put(t, v, "f", "x")
	must(t, v.Mkdir("d", 0o755))
	for _, name := range []string{"f", "d"} {
		_, err := v.Create(name, 0o600)
		wantErr(t, "create "+name, err, fs.ErrExist)
		wantErr(t, "mkdir "+name, v.Mkdir(name, 0o700), fs.ErrExist)
	}
	if got := get(t, v, "f"); got != "x" {
		t.Errorf("content %q", got)
	}
}

func permissions(t *testing.T, v vfs.FS) {
	for _, perm := range []fs.FileMode{0o600, 0o644, 0o660} {
		f, err := v.Create(fmt.Sprintf("f%o", perm), perm)
		must(t, err)
		must(t, f.Close())
		info, err := v.Lstat(fmt.Sprintf("f%o", perm))
		if err != nil || info.Mode != perm {
			t.Errorf("file: mode %v, %v; want %v", info.Mode, err, perm)
		}
		perm |= 0o110
		must(t, v.Mkdir(fmt.Sprintf("d%o", perm), perm))
		info, err = v.Lstat(fmt.Sprintf("d%o", perm))
		if err != nil || info.Mode != perm|fs.ModeDir {
			t.Errorf("directory: mode %v, %v; want %v", info.Mode, err, perm)
		}
	}
}

func regular(t *testing.T, v vfs.FS) {
	must(t, v.Mkdir("d", 0o755))
	_, err := v.Open("d")
	wantErr(t, "open a directory", err, vfs.ErrNotRegular)
	_, err = v.Open(".")
	wantErr(t, "open the root", err, vfs.ErrNotRegular)
	_, err = v.Open("none")
	wantErr(t, "open nothing", err, fs.ErrNotExist)
	if !strings.Contains(err.Error(), "none") {
		t.Errorf("error does not name the path: %v", err)
	}
}

func readOnly(t *testing.T, v vfs.FS) {
	put(t, v, "f", "x")
	f, err := v.Open("f")
	must(t, err)
	defer f.Close()
	if _, err := f.WriteAt([]byte("y"), 0); err == nil {
		t.Error("WriteAt worked")
	}
	if _, err := f.Write([]byte("y")); err == nil {
		t.Error("Write worked")
	}
	if err := f.Truncate(0); err == nil {
		t.Error("Truncate worked")
	}
	must(t, f.Sync())
}

func renamed(t *testing.T, v vfs.FS) {
	must(t, v.Mkdir("d", 0o755))
	put(t, v, "a", "new")
	put(t, v, "d/b", "old")
	old, err := v.Open("d/b")
	must(t, err)
	defer old.Close()
	must(t, v.Rename("a", "d/b"))
	if got := get(t, v, "d/b"); got != "new" {
		t.Errorf("content %q", got)
	}
	if got := all(t, old); got != "old" {
		t.Errorf("the replaced file reads %q through its handle", got)
	}
	_, err = v.Lstat("a")
	wantErr(t, "old name", err, fs.ErrNotExist)
	must(t, v.Rename("d/b", "d/b"))
	must(t, v.Rename("d", "moved"))
	if got := get(t, v, "moved/b"); got != "new" {
		t.Errorf("content %q", got)
	}
}

func renameRefused(t *testing.T, v vfs.FS) {
	must(t, v.Mkdir("d", 0o755))
	must(t, v.Mkdir("d/sub", 0o755))
	put(t, v, "f", "x")
	wantErr(t, "missing", v.Rename("none", "x"), fs.ErrNotExist)
	wantErr(t, "into a missing directory", v.Rename("f", "none/f"), fs.ErrNotExist)
	for _, c := range [][2]string{{"f", "d"}, {"d", "f"}, {"d", "d/sub/d"}, {"d/sub", "d"}, {"f", "f/x"}, {".", "x"}, {"f", "."}} {
		if err := v.Rename(c[0], c[1]); err == nil {
			t.Errorf("renamed %s to %s", c[0], c[1])
		}
	}
	if got := get(t, v, "f"); got != "x" {
		t.Errorf("content %q", got)
	}
}

func removed(t *testing.T, v vfs.FS) {
	must(t, v.Mkdir("d", 0o755))
	put(t, v, "d/f", "x")
	wantErr(t, "full directory", v.Remove("d"), syscall.ENOTEMPTY)
	must(t, v.Remove("d/f"))
	must(t, v.Remove("d"))
	wantErr(t, "again", v.Remove("d"), fs.ErrNotExist)
	if err := v.Remove("."); err == nil {
		t.Error("removed the root")
	}
}

func orphan(t *testing.T, v vfs.FS) {
	put(t, v, "f", "content")
	f, err := v.Open("f")
	must(t, err)
	must(t, v.Remove("f"))
	put(t, v, "f", "another")
	if got := all(t, f); got != "content" {
		t.Errorf("reads %q", got)
	}
	must(t, f.Close())
}

func listed(t *testing.T, v vfs.FS) {
	for _, name := range []string{"b", "a", "z", "ab", ".x", "B", "\xff"} {
		put(t, v, name, "")
	}
	must(t, v.Mkdir("d", 0o755))
	list, err := v.ReadDir(".")
	must(t, err)
	var names []string
	for _, e := range list {
		names = append(names, e.Name)
		if e.IsDir() != (e.Name == "d") || e.IsRegular() == e.IsDir() {
			t.Errorf("%q has type %v", e.Name, e.Type)
		}
	}
	if want := []string{".x", "B", "a", "ab", "b", "d", "z", "\xff"}; !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
	list, err = v.ReadDir("d")
	if len(list) != 0 || err != nil {
		t.Errorf("empty directory: %v, %v", list, err)
	}
	_, err = v.ReadDir("a")
	wantErr(t, "list a file", err, syscall.ENOTDIR)
	_, err = v.ReadDir("none")
	wantErr(t, "list nothing", err, fs.ErrNotExist)
}

func bigDirectory(t *testing.T, v vfs.FS) {
	const count = 3000
	for i := range count {
		must(t, v.Mkdir(fmt.Sprintf("%04x", i*7919%count), 0o750))
	}
	list, err := v.ReadDir(".")
	must(t, err)
	if len(list) != count || !slices.IsSortedFunc(list, func(a, b vfs.DirEntry) int { return strings.Compare(a.Name, b.Name) }) {
		t.Errorf("%d entries, want %d in order", len(list), count)
	}
}

func illegalNames(t *testing.T, v vfs.FS) {
	must(t, v.Mkdir("d", 0o755))
	put(t, v, "f", "")
	for _, name := range []string{"", "/", "/f", "..", "../f", "d/../f", "./f", "d/", "d//f", "d/.", "a\x00b"} {
		_, err := v.Open(name)
		wantErr(t, fmt.Sprintf("open %q", name), err, fs.ErrInvalid)
		_, err = v.Create(name, 0o600)
		wantErr(t, fmt.Sprintf("create %q", name), err, fs.ErrInvalid)
		_, err = v.Lstat(name)
		wantErr(t, fmt.Sprintf("lstat %q", name), err, fs.ErrInvalid)
		_, err = v.ReadDir(name)
		wantErr(t, fmt.Sprintf("list %q", name), err, fs.ErrInvalid)
		_, err = v.LockRange(name, 0, 0, vfs.Shared)
		wantErr(t, fmt.Sprintf("lock range of %q", name), err, fs.ErrInvalid)
		wantErr(t, fmt.Sprintf("mkdir %q", name), v.Mkdir(name, 0o755), fs.ErrInvalid)
		wantErr(t, fmt.Sprintf("remove %q", name), v.Remove(name), fs.ErrInvalid)
		wantErr(t, fmt.Sprintf("touch %q", name), v.Touch(name), fs.ErrInvalid)
		wantErr(t, fmt.Sprintf("sync %q", name), v.SyncDir(name), fs.ErrInvalid)
		wantErr(t, fmt.Sprintf("rename %q", name), v.Rename(name, "x"), fs.ErrInvalid)
		wantErr(t, fmt.Sprintf("rename to %q", name), v.Rename("f", name), fs.ErrInvalid)
	}
}

func missingParents(t *testing.T, v vfs.FS) {
	_, err := v.Create("none/f", 0o600)
	wantErr(t, "create", err, fs.ErrNotExist)
	wantErr(t, "mkdir", v.Mkdir("none/d", 0o700), fs.ErrNotExist)
	wantErr(t, "touch", v.Touch("none/f"), fs.ErrNotExist)
	wantErr(t, "sync", v.SyncDir("none"), fs.ErrNotExist)
	put(t, v, "f", "")
	_, err = v.Create("f/x", 0o600)
	wantErr(t, "create below a file", err, syscall.ENOTDIR)
	_, err = v.Lstat("f/x")
	wantErr(t, "lstat below a file", err, syscall.ENOTDIR)
	wantErr(t, "sync a file as a directory", v.SyncDir("f"), syscall.ENOTDIR)
}

func touched(t *testing.T, v vfs.FS) {
	put(t, v, "f", "x")
	before, err := v.Lstat("f")
	must(t, err)
	must(t, v.Touch("f"))
	after, err := v.Lstat("f")
	must(t, err)
	if after.Atime.Before(before.Atime) || !after.Mtime.Equal(before.Mtime) {
		t.Errorf("before %v %v, after %v %v", before.Atime, before.Mtime, after.Atime, after.Mtime)
	}
	if d := v.Now().Sub(after.Atime); d < -time.Second || d > time.Minute {
		t.Errorf("atime %v, clock %v", after.Atime, v.Now())
	}
	wantErr(t, "touch nothing", v.Touch("none"), fs.ErrNotExist)
	must(t, v.Touch("."))
	if before.Size != 1 || before.Inode == 0 {
		t.Errorf("info %+v", before)
	}
}

func synced(t *testing.T, v vfs.FS) {
	must(t, v.Mkdir("d", 0o755))
	put(t, v, "d/f", "x")
	must(t, v.SyncDir("d"))
	must(t, v.SyncDir("."))
	must(t, v.Rename("d/f", "g"))
	must(t, v.SyncFS())
	must(t, v.Remove("g"))
	must(t, v.Remove("d"))
	must(t, v.SyncFS())
}

func usage(t *testing.T, v vfs.FS) {
	u, err := v.Usage()
	must(t, err)
	if u.Total == 0 || u.Used > u.Total || u.Available > u.Total {
		t.Errorf("usage %+v", u)
	}
	_, err = v.LockRange("none", math.MaxInt64, 0, vfs.Shared)
	wantErr(t, "lock nothing", err, fs.ErrNotExist)
}

func hinted(t *testing.T, v vfs.FS) {
	must(t, v.Mkdir("d", 0o755))
	put(t, v, "d/f", "content")
	for _, name := range []string{"d/f", "d", "none", "none/f", "", "../f"} {
		v.WillNeed(name)
	}
	if got := get(t, v, "d/f"); got != "content" {
		t.Errorf("content %q", got)
	}
	must(t, v.Remove("d/f"))
	must(t, v.Remove("d"))
}
