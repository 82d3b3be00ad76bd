package simdisk_test

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/vfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func put(t testing.TB, v vfs.FS, name string, content []byte, sync bool) {
	t.Helper()
	f, err := v.Create(name, 0o644)
	must(t, err)
	_, err = f.Write(content)
	must(t, err)
	if sync {
		must(t, f.Sync())
	}
	must(t, f.Close())
}

// crashes counts what is seen over many crashes of one disk.
func crashes(d *simdisk.Disk, look func(c *simdisk.Disk) string) map[string]int {
	seen := map[string]int{}
	for seed := range uint64(2000) {
		seen[look(d.Crash(rand.New(rand.NewPCG(seed, 3))))]++
	}
	return seen
}

func present(c *simdisk.Disk, names ...string) string {
	var found []string
	for _, n := range names {
		if _, err := c.Lstat(n); err == nil {
			found = append(found, n)
		}
	}
	return strings.Join(found, " ")
}

func wantSeen(t *testing.T, seen map[string]int, want ...string) {
	t.Helper()
	for _, w := range want {
		if seen[w] == 0 {
			t.Errorf("never saw %q in %v", w, seen)
		}
	}
	for s := range seen {
		if !slices.Contains(want, s) {
			t.Errorf("saw %q, which must not be", s)
		}
	}
}

func TestUnsyncedNamesSurviveInAnyCombination(t *testing.T) {
	d := simdisk.New(simdisk.Options{})
	put(t, d, "a", nil, true)
	put(t, d, "b", nil, true)
	seen := crashes(d, func(c *simdisk.Disk) string { return present(c, "a", "b") })
	wantSeen(t, seen, "", "a", "b", "a b")
	must(t, d.SyncDir("."))
	wantSeen(t, crashes(d, func(c *simdisk.Disk) string { return present(c, "a", "b") }), "a b")
}

func TestRenamesAreReorderedButAtomic(t *testing.T) {
	d := simdisk.New(simdisk.Options{})
	put(t, d, "t1", nil, true)
	put(t, d, "t2", nil, true)
	must(t, d.SyncFS())
	must(t, d.Rename("t1", "f1"))
	must(t, d.Rename("t2", "f2"))
	seen := crashes(d, func(c *simdisk.Disk) string { return present(c, "t1", "f1", "t2", "f2") })
	wantSeen(t, seen, "t1 t2", "f1 t2", "t1 f2", "f1 f2")
}

func TestChangesOfOneNameKeepTheirOrder(t *testing.T) {
	d := simdisk.New(simdisk.Options{})
	put(t, d, "v1", []byte("1"), true)
	put(t, d, "v2", []byte("2"), true)
	must(t, d.SyncFS())
	must(t, d.Rename("v1", "f"))
	must(t, d.Rename("v2", "f"))
	seen := crashes(d, func(c *simdisk.Disk) string {
		b, _ := c.Content("f")
		return present(c, "v1", "v2", "f") + string(b)
	})
	wantSeen(t, seen, "v1 v2", "v2 f1", "f2")
}

func TestFileInALostDirectoryIsLost(t *testing.T) {
	d := simdisk.New(simdisk.Options{})
	must(t, d.Mkdir("d", 0o755))
	put(t, d, "d/f", []byte("x"), true)
	must(t, d.SyncDir("d"))
	seen := crashes(d, func(c *simdisk.Disk) string { return present(c, "d", "d/f") })
	wantSeen(t, seen, "", "d d/f") // SyncDir(d) did not cover the name d
}

func TestRenameIntoANewDirectoryLosesNothing(t *testing.T) {
	d := simdisk.New(simdisk.Options{})
	put(t, d, "f", []byte("x"), true)
	must(t, d.SyncFS())
	must(t, d.Mkdir("d", 0o755))
	must(t, d.Mkdir("d/e", 0o755))
	must(t, d.SyncDir("d"))
	must(t, d.Rename("f", "d/e/f"))
	seen := crashes(d, func(c *simdisk.Disk) string { return present(c, "f", "d/e/f") })
	wantSeen(t, seen, "f", "d/e/f")
	must(t, d.SyncDir("d/e"))
	wantSeen(t, crashes(d, func(c *simdisk.Disk) string { return present(c, "f", "d/e/f") }), "d/e/f")
}

func TestRemovedDirectoryTakesNothingWithIt(t *testing.T) {
	d := simdisk.New(simdisk.Options{})
	must(t, d.Mkdir("d", 0o755))
	put(t, d, "d/f", []byte("x"), true)
	must(t, d.SyncFS())
	must(t, d.Rename("d/f", "f"))
	must(t, d.Remove("d"))
	seen := crashes(d, func(c *simdisk.Disk) string { return present(c, "d", "d/f", "f") })
	wantSeen(t, seen, "d d/f", "d f", "f")
}

func TestDataWithoutSyncMayBeEmptyTornZeroOrGarbage(t *testing.T) {
	content := bytes.Repeat([]byte("x"), 3*4096)
	d := simdisk.New(simdisk.Options{})
	put(t, d, "tmp", content, false)
	must(t, d.Rename("tmp", "f"))
	must(t, d.SyncDir("."))
	seen := crashes(d, func(c *simdisk.Disk) string {
		b, err := c.Content("f")
		switch {
		case err != nil:
			return "lost"
		case len(b) == 0:
			return "empty"
		case bytes.Equal(b, content):
			return "whole"
		case len(b) < len(content):
			return "short"
		case bytes.Equal(b, make([]byte, len(b))):
			return "zeros"
		case bytes.Trim(b, "x\x00") == nil:
			return "torn"
		}
		return "garbage"
	})
	wantSeen(t, seen, "empty", "whole", "short", "zeros", "torn", "garbage")
}

func TestSyncedDataSurvivesInAFileWhoseNameDoes(t *testing.T) {
	d := simdisk.New(simdisk.Options{})
	put(t, d, "f", []byte("content"), true)
	seen := crashes(d, func(c *simdisk.Disk) string {
		b, err := c.Content("f")
		if errors.Is(err, fs.ErrNotExist) {
			return "lost"
		}
		return string(b)
	})
	wantSeen(t, seen, "lost", "content")
}

func TestOverwriteMixesOldNewAndBetween(t *testing.T) {
	d := simdisk.New(simdisk.Options{})
	f, err := d.Create("f", 0o644)
	must(t, err)
	for i, fill := range []byte("abc") {
		_, err = f.WriteAt(bytes.Repeat([]byte{fill}, 1024), 0)
		must(t, err)
		if i == 0 {
			must(t, d.SyncFS())
		}
	}
	seen := crashes(d, func(c *simdisk.Disk) string {
		b, err := c.Content("f")
		must(t, err)
		if len(b) != 1024 {
			return "length"
		}
		for at := 0; at < 1024; at += 512 {
			if !bytes.Equal(b[at:at+512], bytes.Repeat(b[at:at+1], 512)) {
				return "garbage"
			}
		}
		return string(b[0]) + string(b[512])
	})
	for _, want := range []string{"aa", "cc", "ac", "ca", "bb", "garbage"} {
		if seen[want] == 0 {
			t.Errorf("never saw %s in %v", want, seen)
		}
	}
	if seen["length"] > 0 {
		t.Error("the length changed")
	}
	must(t, f.Sync())
	wantSeen(t, crashes(d, func(c *simdisk.Disk) string { b, _ := c.Content("f"); return string(b[:1]) }), "c")
}

func TestAccessTimeMayBeLost(t *testing.T) {
	d := simdisk.New(simdisk.Options{})
	put(t, d, "f", nil, false)
	must(t, d.SyncFS())
	start := d.Now()
	d.Advance(time.Hour)
	must(t, d.Touch("f"))
	look := func(c *simdisk.Disk) string {
		info, err := c.Lstat("f")
		must(t, err)
		return info.Atime.Sub(start).String()
	}
	wantSeen(t, crashes(d, look), "0s", "1h0m0s")
	must(t, d.SyncFS())
	wantSeen(t, crashes(d, look), "1h0m0s")
}

func TestPowerCutStopsEverything(t *testing.T) {
	for n := range 4 {
		d := simdisk.New(simdisk.Options{})
		d.StopAfter(n)
		done := 0
		for _, name := range []string{"a", "b", "c"} {
			if err := d.Mkdir(name, 0o755); err == nil {
				done++
			} else if !errors.Is(err, simdisk.ErrPowerCut) {
				t.Fatal(err)
			}
		}
		if done != n || d.Ops() != n {
			t.Errorf("%d of %d calls worked, %d counted", done, n, d.Ops())
		}
		if _, err := d.ReadDir("."); !errors.Is(err, simdisk.ErrPowerCut) && n < 4 {
			t.Errorf("reading after the power cut: %v", err)
		}
		c := d.CrashAs(simdisk.Everything, rand.New(rand.NewPCG(1, 1)))
		list, err := c.ReadDir(".")
		if err != nil || len(list) != n {
			t.Errorf("%d names after the restart, want %d: %v", len(list), n, err)
		}
	}
}

func TestLocksVanishWithTheirProcess(t *testing.T) {
	d := simdisk.New(simdisk.Options{})
	put(t, d, "f", nil, false)
	a, b := d.Process(), d.Process()
	held, err := a.LockRange("f", 0, 0, vfs.Exclusive)
	must(t, err)
	put(t, a, "written", []byte("x"), false)
	open, err := a.Open("f")
	must(t, err)
	if _, err := b.LockRange("f", 5, 1, vfs.Shared); !errors.Is(err, vfs.ErrLocked) {
		t.Fatalf("two holders: %v", err)
	}
	a.Kill()
	if _, err := b.LockRange("f", 0, 0, vfs.Exclusive); err != nil {
		t.Errorf("range lock of a killed process: %v", err)
	}
	if _, err := d.Content("written"); err != nil {
		t.Errorf("what the killed process wrote: %v", err)
	}
	_, sizeErr := open.Size()
	for what, err := range map[string]error{"mkdir": a.Mkdir("x", 0o755), "open file": sizeErr, "unlock": held.Unlock()} {
		if !errors.Is(err, simdisk.ErrKilled) {
			t.Errorf("%s by a killed process: %v", what, err)
		}
	}
}

func TestHintsCountAsNothing(t *testing.T) {
	d := simdisk.New(simdisk.Options{})
	put(t, d, "f", []byte("x"), true)
	before := d.Ops()
	d.WillNeed("f")
	d.WillNeed("none")
	if d.Ops() != before {
		t.Error("a hint was counted")
	}
}

func TestFullDiskWritesWhatFits(t *testing.T) {
	d := simdisk.New(simdisk.Options{Capacity: 3*4096 + 512})
	f, err := d.Create("f", 0o644)
	must(t, err)
	n, err := f.Write(make([]byte, 20000))
	if n != 3*4096 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("wrote %d, %v", n, err)
	}
	if err := d.Mkdir("d", 0o755); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("mkdir: %v", err)
	}
	if _, err := f.WriteAt([]byte("over"), 100); err != nil {
		t.Errorf("overwriting: %v", err)
	}
	must(t, d.Remove("f"))
	if u, _ := d.Usage(); u.Available != 0 {
		t.Errorf("%d bytes free while the file is open", u.Available)
	}
	must(t, f.Close())
	if u, _ := d.Usage(); u.Used != 0 {
		t.Errorf("%d bytes used", u.Used)
	}
}

func TestBitRotIsOnThePlatters(t *testing.T) {
	d := simdisk.New(simdisk.Options{})
	must(t, d.Mkdir("d", 0o755))
	put(t, d, "d/f", []byte("good"), true)
	must(t, d.SyncFS())
	if got := d.Files(); !slices.Equal(got, []string{"d/f"}) {
		t.Errorf("files %q", got)
	}
	must(t, d.Corrupt("d/f", func(b []byte) []byte { b[0] = 'G'; return b }))
	wantSeen(t, crashes(d, func(c *simdisk.Disk) string { b, _ := c.Content("d/f"); return string(b) }), "Good")
}
