package fat_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/fat"
	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
)

// tree is a directory with names and sizes that FAT can have: path → content, nil
// for directories.
func tree(seed uint64, cluster int) map[string][]byte {
	r := rand.New(rand.NewPCG(seed, 1))
	content := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	all := map[string][]byte{
		"EMPTY":                      {},
		"lower.txt":                  content(10),
		"Mixed Case and blanks.text": content(cluster - 1),
		"ünïcødé 文字.dat":             content(cluster),
		"one more":                   content(cluster + 1),
		strings.Repeat("x", 240):     content(5*cluster + 7),
		".hidden":                    content(3),
		"dir":                        nil,
		"dir/below":                  nil,
		"dir/below/deep.bin":         content(64*cluster + 100),
		"many":                       nil,
	}
	for i := range 300 {
		all[fmt.Sprintf("many/a file with a long name, number %03d", i)] = content(r.IntN(2 * cluster))
	}
	return all
}

// write puts a tree below dir.
func write(t *testing.T, dir string, all map[string][]byte) {
	t.Helper()
	for _, pass := range []bool{true, false} {
		for path, b := range all {
			to := filepath.Join(dir, path)
			var err error
			switch {
			case pass && b == nil:
				err = os.MkdirAll(to, 0o755)
			case !pass && b != nil:
				err = os.WriteFile(to, b, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// read is what f shows, in the form of tree.
func read(t *testing.T, f fsread.FS) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	var down func(fsread.ID, string)
	down = func(dir fsread.ID, at string) {
		err := f.ReadDir(dir, func(e fsread.Entry) error {
			path := strings.TrimPrefix(at+"/"+e.Name, "/")
			found, err := f.Lookup(dir, e.Name)
			if err != nil || found != e {
				t.Errorf("lookup of %q: %+v, %v", path, found, err)
			}
			if e.Kind == fsread.Directory {
				all[path] = nil
				down(e.ID, path)
				return nil
			}
			st, err := f.Stat(e.ID)
			if err != nil {
				return err
			}
			img, err := f.Open(e.ID)
			if err != nil {
				return err
			}
			b, err := io.ReadAll(io.NewSectionReader(img, 0, img.Size()))
			if err != nil || int64(len(b)) != st.Size {
				return fmt.Errorf("%s: %d bytes of %d: %w", path, len(b), st.Size, err)
			}
			all[path] = b
			return nil
		})
		if err != nil {
			t.Fatalf("%q: %v", at, err)
		}
	}
	down(f.Root(), "")
	return all
}

func compare(t *testing.T, got, want map[string][]byte) {
	t.Helper()
	for path, b := range want {
		g, ok := got[path]
		switch {
		case !ok:
			t.Errorf("%q is missing", path)
		case (b == nil) != (g == nil) && len(b)+len(g) > 0, !bytes.Equal(b, g):
			t.Errorf("%q has %d bytes, should have %d", path, len(g), len(b))
		}
		delete(got, path)
	}
	for path := range got {
		t.Errorf("%q should not be there", path)
	}
}

var kinds = []struct {
	name    string
	size    int64
	mkfs    []string
	cluster int
}{
	{"12", 4 << 20, []string{"mkfs.vfat", "-F12", "-s4"}, 2048},
	{"12 one sector a cluster", 2 << 20, []string{"mkfs.vfat", "-F12", "-s1", "-S512"}, 512},
	{"16", 64 << 20, []string{"mkfs.vfat", "-F16", "-s4"}, 2048},
	{"32", 128 << 20, []string{"mkfs.vfat", "-F32", "-s1"}, 512},
	{"32 large sectors", 600 << 20, []string{"mkfs.vfat", "-F32", "-S4096", "-s2"}, 8192},
}

// fill makes an image with the tree of a seed, by mtools.
func fill(t *testing.T, size int64, mkfs []string, all map[string][]byte) string {
	t.Helper()
	img := fsreadtest.Make(t, size, append(mkfs, "-nTHE LABEL", "-i", "1234ABCD")...)
	src := t.TempDir()
	write(t, src, all)
	list, err := filepath.Glob(filepath.Join(src, "*"))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("MTOOLS_SKIP_CHECK", "1")
	fsreadtest.Run(t, "mcopy", append([]string{"-s", "-m", "-Q", "-i", img}, append(list, "::")...)...)
	return img
}

func TestWhatMtoolsWroteReadsBack(t *testing.T) {
	t.Setenv("LC_ALL", "C.UTF-8")
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			all := tree(1, k.cluster)
			img := fill(t, k.size, k.mkfs, all)
			f, err := fat.Open(fsreadtest.OpenFile(t, img))
			if err != nil {
				t.Fatal(err)
			}
			if a := f.About(); a.Label != "THE LABEL" || a.UUID != "1234-ABCD" || a.Type != "vfat" {
				t.Errorf("%+v", a)
			}
			compare(t, read(t, f), all)
			if e, err := f.Lookup(f.Root(), "mIXED cASE AND BLANKS.TEXT"); err != nil || e.Name != "Mixed Case and blanks.text" {
				t.Errorf("in other case: %+v, %v", e, err)
			}
			if _, err := f.Lookup(f.Root(), "not there"); !errors.Is(err, fsread.ErrNotExist) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestFilesInManyPiecesReadBack(t *testing.T) {
	for _, k := range kinds[:4] {
		t.Run(k.name, func(t *testing.T) {
			all := tree(2, k.cluster)
			img := fill(t, k.size, k.mkfs, all)
			for i := 0; i < 300; i += 2 { // holes of a cluster or two
				name := fmt.Sprintf("many/a file with a long name, number %03d", i)
				fsreadtest.Run(t, "mdel", "-i", img, "::"+name)
				delete(all, name)
			}
			big := bytes.Repeat([]byte("pieces"), 150*k.cluster/6)
			from := filepath.Join(t.TempDir(), "big")
			if err := os.WriteFile(from, big, 0o644); err != nil {
				t.Fatal(err)
			}
			fsreadtest.Run(t, "mcopy", "-i", img, from, "::BIG.BIN")
			all["BIG.BIN"] = big
			f, err := fat.Open(fsreadtest.OpenFile(t, img))
			if err != nil {
				t.Fatal(err)
			}
			compare(t, read(t, f), all)
		})
	}
}

func TestTimesAndAttributesAreThoseOfTheEntry(t *testing.T) {
	img := fsreadtest.Make(t, 4<<20, "mkfs.vfat", "-F12")
	from := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(from, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	when := time.Date(2024, 2, 29, 23, 59, 58, 0, time.UTC)
	if err := os.Chtimes(from, when, when); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TZ", "UTC")
	fsreadtest.Run(t, "mcopy", "-m", "-i", img, from, "::F")
	fsreadtest.Run(t, "mattrib", "+r", "-i", img, "::F")
	f, err := fat.Open(fsreadtest.OpenFile(t, img))
	if err != nil {
		t.Fatal(err)
	}
	e, err := f.Lookup(f.Root(), "F")
	if err != nil {
		t.Fatal(err)
	}
	st, err := f.Stat(e.ID)
	if err != nil || !st.Modified.Equal(when) || st.Mode != 0o555 || !st.Invented {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestAnExFATReadsBack(t *testing.T) {
	t.Setenv("LC_ALL", "C.UTF-8")
	for name, mkfs := range map[string][]string{
		"4k": {"mkfs.exfat", "-c", "4K", "-L", "Etikett"}, "64k": {"mkfs.exfat", "-c", "64K", "-L", "Etikett"},
	} {
		t.Run(name, func(t *testing.T) {
			img := fsreadtest.Make(t, 256<<20, mkfs...)
			all := tree(3, 4096)
			dir := t.TempDir()
			fsreadtest.Root(t)
			loop := strings.TrimSpace(fsreadtest.Run(t, "losetup", "-f", "--show", img))
			t.Cleanup(func() { _ = exec.Command("losetup", "-d", loop).Run() })
			fsreadtest.Run(t, "mount.exfat-fuse", loop, dir)
			mounted := true
			unmount := func() {
				if !mounted {
					return
				}
				mounted = false
				if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
					t.Errorf("umount: %v: %s", err, out)
				}
			}
			t.Cleanup(unmount)
			write(t, dir, all)
			for i := 0; i < 300; i += 2 {
				gone := fmt.Sprintf("many/a file with a long name, number %03d", i)
				if err := os.Remove(filepath.Join(dir, gone)); err != nil {
					t.Fatal(err)
				}
				delete(all, gone)
			}
			more := map[string][]byte{"pieces": bytes.Repeat([]byte("pieces"), 100_000), "valid": bytes.Repeat([]byte{7}, 5000)}
			write(t, dir, more)
			if err := os.Truncate(filepath.Join(dir, "valid"), 70_000); err != nil {
				t.Fatal(err)
			}
			all["pieces"], all["valid"] = more["pieces"], append(more["valid"], make([]byte, 65_000)...)
			unmount()
			f, err := fat.OpenEx(fsreadtest.OpenFile(t, img))
			if err != nil {
				t.Fatal(err)
			}
			if a := f.About(); a.Label != "Etikett" || len(a.UUID) != 9 {
				t.Errorf("%+v", a)
			}
			compare(t, read(t, f), all)
			e, err := f.Lookup(f.Root(), "PIECES")
			if err != nil {
				t.Fatal(err)
			}
			if st, err := f.Stat(e.ID); err != nil || time.Since(st.Modified).Abs() > time.Hour {
				t.Errorf("%+v, %v", st, err)
			}
		})
	}
}

func TestSomethingElseIsNotTakenForIt(t *testing.T) {
	for _, b := range [][]byte{nil, make([]byte, 100), make([]byte, 1<<20), bytes.Repeat([]byte{0xff}, 4096)} {
		img := fsreadtest.Mem(b)
		if _, err := fat.Open(img); !errors.Is(err, fsread.ErrOther) {
			t.Errorf("%d bytes: %v", len(b), err)
		}
		if _, err := fat.OpenEx(img); !errors.Is(err, fsread.ErrOther) {
			t.Errorf("%d bytes: %v", len(b), err)
		}
	}
}

// A flip of bytes anywhere may change what is read; it may not end in a panic, a
// loop or a broken contract.
func FuzzOpen(f *testing.F) {
	f.Add(uint8(0), uint64(1), uint16(20))
	f.Add(uint8(1), uint64(2), uint16(200))
	f.Add(uint8(2), uint64(3), uint16(3))
	seeds := [][]byte{}
	for _, name := range []string{"fat12", "fat32", "exfat"} {
		seeds = append(seeds, fsreadtest.Unpack(f, filepath.Join("testdata", name+".img.gz"))) // mkfs.vfat, mkfs.exfat, some files
	}
	f.Fuzz(func(t *testing.T, which uint8, seed uint64, flips uint16) {
		img := bytes.Clone(seeds[int(which)%len(seeds)])
		r := rand.New(rand.NewPCG(seed, 0))
		for range flips {
			at := r.IntN(len(img))
			if r.IntN(2) == 0 { // where something is
				at = r.IntN(min(len(img), 64<<10))
			}
			img[at] = byte(r.Uint32())
		}
		if v, err := fat.Open(fsreadtest.Mem(img)); err == nil {
			fsreadtest.Exhaust(t, v, fsreadtest.Budget{Files: 500, Bytes: 64 << 10})
		}
		if v, err := fat.OpenEx(fsreadtest.Mem(img)); err == nil {
			fsreadtest.Exhaust(t, v, fsreadtest.Budget{Files: 500, Bytes: 64 << 10})
		}
	})
}
