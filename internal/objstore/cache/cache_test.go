package cache_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/cache"
	"github.com/holdfast-backup/holdfast/internal/objstore/faulty"
	"github.com/holdfast-backup/holdfast/internal/objstore/mem"
	"github.com/holdfast-backup/holdfast/internal/objstore/meter"
	"github.com/holdfast-backup/holdfast/internal/objstore/objtest"
)

const mib = 1 << 20

func TestAStoreWithACacheKeepsWhatAnObjectStorePromises(t *testing.T) {
	objtest.Run(t, objtest.Abilities{IfTag: true, Lock: true}, func(t *testing.T) objstore.Store {
		return cache.New(mem.New(time.Now, true), t.TempDir(), cache.Options{Size: 100 * mib, Trouble: func(err error) { t.Error(err) }})
	})
}

// clock is one that JSON can tell.
func clock() time.Time { return time.Now().UTC().Round(0) }

// noise is content that is no other's.
func noise(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// fixture is a store that counts, behind a cache in a directory.
type fixture struct {
	*cache.Store
	under *meter.Store
	dir   string
}

func newFixture(t *testing.T, o cache.Options) fixture {
	t.Helper()
	if o.Size == 0 {
		o.Size = 100 * mib
	}
	f := fixture{under: meter.New(mem.New(clock, false)), dir: filepath.Join(t.TempDir(), "cache")}
	f.Store = cache.New(f.under, f.dir, o)
	return f
}

func (f fixture) put(t *testing.T, key string, body []byte) {
	t.Helper()
	if _, err := f.Put(t.Context(), key, bytes.NewReader(body), objstore.PutOptions{If: objstore.IfAbsent}); err != nil {
		t.Fatal(err)
	}
}

// reads reads a range, compares it, and says whether the store was asked.
func (f fixture) reads(t *testing.T, key string, off, n int64, want []byte) (asked bool) {
	t.Helper()
	before := f.under.Counts().Requests[meter.Get]
	o, err := f.Get(t.Context(), key, off, n)
	if err != nil {
		t.Fatalf("%s from %d: %v", key, off, err)
	}
	b, err := io.ReadAll(o)
	if err := errors.Join(err, o.Close()); err != nil || !bytes.Equal(b, want) {
		t.Fatalf("%s from %d: %d bytes, want %d; same %v; %v", key, off, len(b), len(want), bytes.Equal(b, want), err)
	}
	if st, err := f.Stat(t.Context(), key); err == nil && st != o.Info {
		t.Fatalf("%s: %+v, want %+v", key, o.Info, st)
	}
	return f.under.Counts().Requests[meter.Get] > before
}

func TestWhatWasReadIsNotAskedForAgain(t *testing.T) {
	f := newFixture(t, cache.Options{})
	body := noise(1, 300_000)
	f.put(t, "o", body)
	f.put(t, "empty", nil)
	for _, tc := range []struct {
		name   string
		key    string
		off, n int64
		asked  bool
	}{
		{"a range", "o", 100_000, 100_000, true},
		{"the same", "o", 100_000, 100_000, false},
		{"a part of it", "o", 150_000, 1, false},
		{"its end", "o", 199_999, 1, false},
		{"one byte more", "o", 199_999, 2, true},
		{"the end of the object", "o", 200_001, -1, true},
		{"the end of the object, and more than there is", "o", 250_000, 1 << 40, false},
		{"all", "o", 0, -1, true},
		{"all again", "o", 0, -1, false},
		{"a part of all", "o", 50_000, 200_000, false},
		{"nothing", "empty", 0, -1, true},
		{"nothing again", "empty", 0, -1, false},
	} {
		all := body
		if tc.key == "empty" {
			all = nil
		}
		end := int64(len(all))
		if tc.n >= 0 {
			end = min(end, tc.off+tc.n)
		}
		if asked := f.reads(t, tc.key, tc.off, tc.n, all[tc.off:end]); asked != tc.asked {
			t.Errorf("%s: the store was asked is %v", tc.name, asked)
		}
	}
	if n, b := f.Hits(); n != 7 || b != 100_000+1+1+50_000+300_000+200_000 {
		t.Errorf("%d hits with %d bytes", n, b)
	}
	again := fixture{cache.New(f.under, f.dir, cache.Options{Size: mib}), f.under, f.dir}
	if again.reads(t, "o", 0, -1, body) {
		t.Error("another process does not find what is kept")
	}
}

func TestOnlyWhatMayBeKeptIsKept(t *testing.T) {
	f := newFixture(t, cache.Options{Keep: func(key string) bool { return key != "changes" }, Largest: 1000})
	f.put(t, "changes", []byte("x"))
	f.put(t, "large", noise(1, 2000))
	f.put(t, "o", noise(2, 1000))
	for range 2 {
		if !f.reads(t, "changes", 0, -1, []byte("x")) {
			t.Error("what changes came from the cache")
		}
		if !f.reads(t, "large", 0, -1, noise(1, 2000)) {
			t.Error("what is too large came from the cache")
		}
		o, err := f.Get(t.Context(), "o", 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = o.Read(make([]byte, 999))
		_ = o.Close()
	}
	if !f.reads(t, "o", 0, -1, noise(2, 1000)) {
		t.Error("an object that was read in part was kept")
	}
	if left := files(t, filepath.Join(f.dir, "tmp")); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func TestTheSameKeysOfAnotherAreOthers(t *testing.T) {
	f := newFixture(t, cache.Options{Scope: "one"})
	f.put(t, "o", []byte("one"))
	f.reads(t, "o", 0, -1, []byte("one"))
	other := cache.New(mem.New(time.Now, false), f.dir, cache.Options{Size: mib, Scope: "two"})
	if _, err := other.Get(t.Context(), "o", 0, -1); !errors.Is(err, objstore.ErrNotFound) {
		t.Errorf("err = %v, want ErrNotFound", err)
	}
}

func TestARemovedObjectIsForgotten(t *testing.T) {
	f := newFixture(t, cache.Options{})
	f.put(t, "o", []byte("x"))
	f.reads(t, "o", 0, -1, []byte("x"))
	if err := f.Delete(t.Context(), []string{"o"}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Get(t.Context(), "o", 0, -1); !errors.Is(err, objstore.ErrNotFound) {
		t.Errorf("err = %v, want ErrNotFound", err)
	}
}

// files lists the files below a directory.
func files(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			list = append(list, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return list
}

// Whatever a disk or a crash makes of a file, the object is right.
func TestADamagedFileIsFetchedAnew(t *testing.T) {
	f := newFixture(t, cache.Options{})
	const off, n = 1000, 150_000 // two blocks and a bit
	body := noise(3, 200_000)
	f.put(t, "o", body)
	f.reads(t, "o", off, n, body[off:off+n])
	list := files(t, f.dir)
	if len(list) != 1 {
		t.Fatalf("files: %q", list)
	}
	whole, err := os.ReadFile(list[0])
	if err != nil {
		t.Fatal(err)
	}
	damaged := func(name string, b []byte) {
		t.Helper()
		if err := os.WriteFile(list[0], b, 0o600); err != nil {
			t.Fatal(err)
		}
		if !f.reads(t, "o", off, n, body[off:off+n]) {
			t.Errorf("%s: it was not fetched anew", name)
		}
	}
	for _, at := range append([]int{0, 1, 65535, 65536, 65537, n - 1}, upTo(n, len(whole))...) {
		b := bytes.Clone(whole)
		b[at] ^= 0x40
		damaged(fmt.Sprintf("byte %d", at), b)
	}
	for _, size := range append([]int{0, 1, 65536, n - 1}, upTo(n, len(whole))...) {
		damaged(fmt.Sprintf("cut to %d", size), whole[:size])
		damaged(fmt.Sprintf("zeros from %d", size), append(bytes.Clone(whole[:size]), make([]byte, len(whole)-size)...))
	}
	damaged("something behind it", append(bytes.Clone(whole), 0))
	if f.reads(t, "o", off, n, body[off:off+n]) {
		t.Error("it was not kept again")
	}
}

func upTo(from, end int) (list []int) {
	for i := from; i < end; i++ {
		list = append(list, i)
	}
	return list
}

func TestAFileOfAnotherObjectIsNotTakenForIt(t *testing.T) {
	f := newFixture(t, cache.Options{})
	f.put(t, "a", noise(1, 1000))
	f.put(t, "b", noise(2, 1000))
	f.reads(t, "a", 0, -1, noise(1, 1000))
	a := files(t, f.dir)[0]
	f.reads(t, "b", 0, -1, noise(2, 1000))
	for _, path := range files(t, f.dir) {
		if path == a {
			continue
		}
		if err := os.Rename(a, path); err != nil {
			t.Fatal(err)
		}
	}
	if !f.reads(t, "b", 0, -1, noise(2, 1000)) {
		t.Error("the other file was used")
	}
}

// An object that is gone from the store, and damaged here.
func TestWhatCannotBeFetchedAnewIsAnError(t *testing.T) {
	under := mem.New(time.Now, false)
	dir := t.TempDir()
	s := cache.New(under, dir, cache.Options{Size: 10 * mib})
	if _, err := under.Put(t.Context(), "o", bytes.NewReader(noise(1, 100_000)), objstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := objstore.ReadAll(t.Context(), s, "o", mib); err != nil {
		t.Fatal(err)
	}
	if err := under.Delete(t.Context(), []string{"o"}); err != nil {
		t.Fatal(err)
	}
	if b, _, err := objstore.ReadAll(t.Context(), s, "o", mib); err != nil || !bytes.Equal(b, noise(1, 100_000)) {
		t.Fatalf("what is kept outlives the object: %v", err)
	}
	path := files(t, dir)[0]
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[80_000] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := objstore.ReadAll(t.Context(), s, "o", mib); !errors.Is(err, objstore.ErrNotFound) {
		t.Errorf("err = %v, want ErrNotFound", err)
	}
}

func TestWithoutADirectoryEverythingIsReadAndOneHearsOfItOnce(t *testing.T) {
	var told []error
	f := newFixture(t, cache.Options{Trouble: func(err error) { told = append(told, err) }})
	if err := os.WriteFile(f.dir, []byte("no directory"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.put(t, "o", noise(1, 1000))
	for range 3 {
		f.reads(t, "o", 0, -1, noise(1, 1000))
	}
	if len(told) != 1 {
		t.Errorf("told: %v", told)
	}
}

func TestWhatWasUsedLongestAgoGoesFirst(t *testing.T) {
	const size = 100 << 10
	f := newFixture(t, cache.Options{Size: 1 * mib, Trouble: func(err error) { t.Error(err) }})
	key := func(i int) string { return fmt.Sprintf("o%02d", i) }
	old := time.Now().Add(-time.Hour)
	for i := range 30 {
		f.put(t, key(i), noise(byte(i), size))
		f.reads(t, key(i), 0, -1, noise(byte(i), size))
		for _, path := range files(t, f.dir) { // time passes
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			at := info.ModTime().Add(-2 * time.Minute)
			if err := os.Chtimes(path, at, at); err != nil {
				t.Fatal(err)
			}
		}
		if f.reads(t, key(0), 0, -1, noise(0, size)) {
			t.Fatalf("what was used just now went, after %d", i)
		}
		var total int64
		for _, path := range files(t, f.dir) {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			total += info.Size()
		}
		if total > mib {
			t.Fatalf("%d bytes are kept", total)
		}
	}
	if !f.reads(t, key(5), 0, -1, noise(5, size)) || f.reads(t, key(29), 0, -1, noise(29, size)) {
		t.Error("other things went than what was used longest ago")
	}
	abandoned := filepath.Join(f.dir, "tmp", "123")
	if err := os.WriteFile(abandoned, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(abandoned, old.Add(-24*time.Hour), old.Add(-24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	for i := 30; i < 40; i++ {
		f.put(t, key(i), noise(byte(i), size))
		f.reads(t, key(i), 0, -1, noise(byte(i), size))
	}
	if left := files(t, filepath.Join(f.dir, "tmp")); len(left) > 0 {
		t.Errorf("what a killed process left is still there: %q", left)
	}
}

// Several processes read through a connection that breaks, while files are damaged and
// there is room for a third of them.
func TestSeveralProcessesShareADirectory(t *testing.T) {
	under := mem.New(time.Now, false)
	dir := t.TempDir()
	const objects, size = 30, 100_000
	for i := range objects {
		if _, err := under.Put(t.Context(), fmt.Sprint(i), bytes.NewReader(noise(byte(i), size)), objstore.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for p := range 4 {
		s := cache.New(faulty.New(under, uint64(p), faulty.Plan{Cut: 0.1}), dir, cache.Options{Size: mib, Trouble: func(err error) { t.Error(err) }})
		for w := range 2 {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(uint64(p), uint64(w)))
				for range 200 {
					i, off := r.IntN(objects), r.IntN(2)*r.IntN(size)
					b := make([]byte, min(size-off, 1+r.IntN(size)))
					err := objstore.ReadAt(t.Context(), s, fmt.Sprint(i), b, int64(off))
					if err == nil && !bytes.Equal(b, noise(byte(i), size)[off:off+len(b)]) {
						t.Errorf("object %d at %d has other bytes", i, off)
					}
					if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Go(func() { // the disk
		r := rand.New(rand.NewPCG(9, 9))
		for range 300 {
			var list []string
			_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				if err == nil && !d.IsDir() && !strings.Contains(path, "tmp") {
					list = append(list, path)
				}
				return nil
			})
			if len(list) == 0 {
				continue
			}
			if f, err := os.OpenFile(list[r.IntN(len(list))], os.O_WRONLY, 0); err == nil {
				_, _ = f.WriteAt([]byte("damage"), int64(r.IntN(size)))
				_ = f.Close()
			}
		}
	})
	wg.Wait()
}
