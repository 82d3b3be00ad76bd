package target_test

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/image/target"
)

const mib = 1 << 20

type span struct{ off, n int64 }

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(b)
	return b
}

func create(t *testing.T, path string, size int64, opts target.Options) *target.File {
	t.Helper()
	f, err := target.Create(path, size, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestNewFileAppearsWholeAtFinish(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "disk.raw")
	f := create(t, path, 10*mib+5, target.Options{Perm: 0o640})
	if !f.Fresh() || image.NeedsOrder(f) || f.Size() != 10*mib+5 {
		t.Errorf("fresh %v, needs order %v, size %d", f.Fresh(), image.NeedsOrder(f), f.Size())
	}
	content := random(mib)
	var wg sync.WaitGroup
	for _, off := range []int64{7 * mib, 2 * mib} {
		wg.Go(func() {
			if _, err := f.WriteAt(content, off); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := f.Zero(3*mib, 4*mib); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, mib)
	if _, err := f.ReadAt(got, 2*mib); err != nil || !bytes.Equal(got, content) {
		t.Errorf("read before the end: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before Finish the name is there: %v", err)
	}
	for _, n := range names(t, dir) {
		if !strings.HasPrefix(n, ".") || !strings.HasSuffix(n, target.PartSuffix) {
			t.Errorf("unfinished file is called %s", n)
		}
	}
	if err := f.Finish(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 10*mib+5)
	copy(want[2*mib:], content)
	copy(want[7*mib:], content)
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, want) {
		t.Errorf("content differs (%d bytes, %v)", len(b), err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o640 {
		t.Errorf("mode %v, %v; want 0640", info.Mode(), err)
	}
	if n := names(t, dir); len(n) != 1 {
		t.Errorf("directory has %v", n)
	}
	if err := f.Finish(); err == nil {
		t.Error("a second Finish is accepted")
	}
}

func TestUnfinishedNewFileLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, strings.Repeat("n", 255)) // the longest legal name
	f := create(t, path, mib, target.Options{})
	if _, err := f.WriteAt([]byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if n := names(t, dir); len(n) != 0 {
		t.Errorf("left behind: %v", n)
	}
}

func TestExistingFileIsNotOverwrittenByAccident(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "disk.raw")
	early := create(t, path, mib, target.Options{})
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := target.Create(path, mib, target.Options{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("create over a file: %v", err)
	}
	if err := early.Finish(); !errors.Is(err, fs.ErrExist) {
		t.Errorf("finish over a file that appeared meanwhile: %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("the file is %q, %v", b, err)
	}
	over := create(t, path, 3, target.Options{Overwrite: true})
	if _, err := over.WriteAt([]byte("new"), 0); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); string(b) != "precious" {
		t.Errorf("overwritten before the end: %q", b)
	}
	if err := over.Finish(); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); string(b) != "new" {
		t.Errorf("after Finish: %q", b)
	}
}

func TestCreateSaysWhyItCannot(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("elsewhere", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		path, say string
		size      int64
	}{
		{dir, "is a directory", 1},
		{filepath.Join(dir, "none", "x"), "there is no directory", 1},
		{filepath.Join(dir, "link"), "is a symbolic link", 1},
		{os.DevNull, "is not a regular file", 1},
		{dir + "/", "no file name", 1},
		{"", "no file name", 1},
		{filepath.Join(dir, "x"), "cannot be", -1},
		{filepath.Join(dir, "x"), "make a file of", 1<<63 - 1},
	} {
		_, err := target.Create(tc.path, tc.size, target.Options{Overwrite: true})
		if err == nil || !strings.Contains(err.Error(), tc.say) {
			t.Errorf("create %q of %d bytes: %v, want %q", tc.path, tc.size, err, tc.say)
		}
	}
	if n := names(t, dir); len(n) != 1 {
		t.Errorf("left behind: %v", n)
	}
}

func TestInPlaceChangesOnlyWhatIsWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.raw")
	want := random(4*mib + 100)
	if err := os.WriteFile(path, want, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := target.OpenExisting(path, int64(len(want)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Fresh() {
		t.Error("an existing file is called fresh")
	}
	change(t, f, want)
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, want) {
		t.Errorf("the file differs (%v)", err)
	}
	if e, err := f.ExtentAt(mib + 5000); err != nil || e.Kind != image.Zero {
		t.Errorf("a zeroed range is %v, %v: no space was released", e, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, want) {
		t.Errorf("after Close the file differs (%v)", err)
	}
}

// change writes and zeroes ranges of f and does the same to want.
func change(t *testing.T, f *target.File, want []byte) {
	t.Helper()
	p := []byte("changed")
	for _, off := range []int64{0, 777, 3 * mib, int64(len(want) - len(p))} {
		copy(want[off:], p)
		if _, err := f.WriteAt(p, off); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range []span{
		{mib, mib},                      // aligned
		{2*mib + 3, 100},                // inside one page
		{2*mib + 8192 - 1, 8192 + 2},    // a byte on both sides
		{2*mib + 65536 + 511, 512},      // across sectors
		{int64(len(want)) - 4500, 4000}, // near the end
		{5, 0},
	} {
		clear(want[r.off : r.off+r.n])
		if err := f.Zero(r.off, r.n); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Finish(); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read back: %v, equal %v", err, bytes.Equal(got, want))
	}
}

func TestInPlaceSaysWhyItCannot(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		path string
		size int64
		say  []string
	}{
		{file, 999, []string{"1000 bytes", "999", "truncate"}},
		{file, 1001, []string{"1000 bytes", "1001"}},
		{dir, 1, []string{"neither a file nor a block device"}},
		{os.DevNull, 1, []string{"neither a file nor a block device"}},
		{filepath.Join(dir, "none"), 1, []string{"does not exist"}},
	} {
		_, err := target.OpenExisting(tc.path, tc.size)
		for _, say := range tc.say {
			if err == nil || !strings.Contains(err.Error(), say) {
				t.Errorf("open %s for %d bytes: %v, want %q", tc.path, tc.size, err, say)
			}
		}
	}
}

func TestWritesOutsideTheImageAreRefused(t *testing.T) {
	f := create(t, filepath.Join(t.TempDir(), "d"), 100, target.Options{})
	s := target.NewStream(&bytes.Buffer{}, 100)
	for _, r := range []span{{99, 2}, {-1, 1}, {101, 0}} {
		for _, to := range []image.Target{f, s} {
			if _, err := to.WriteAt(make([]byte, r.n), r.off); err == nil {
				t.Errorf("%T takes %v", to, r)
			}
			if err := to.Zero(r.off, r.n); err == nil {
				t.Errorf("%T zeroes %v", to, r)
			}
		}
	}
}

func TestTwoInPlaceRestoresOfOneFileAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(path, make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	first, err := target.OpenExisting(path, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := target.OpenExisting(path, 1000); !errors.Is(err, target.ErrBusy) {
		t.Errorf("second restore: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := target.OpenExisting(path, 1000)
	if err != nil {
		t.Fatalf("after the first is closed: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}
