package iso9660_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
	"github.com/holdfast-backup/holdfast/internal/fsread/iso9660"
)

// tree makes files with names of all lengths, deep directories and links, all of
// one time.
func tree(t *testing.T, deep int) string {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	must(os.Chmod(dir, 0o755))
	must(os.Mkdir(filepath.Join(dir, "many"), 0o750))
	for i := range 600 {
		name := fmt.Sprintf("%d%s", i, strings.Repeat("n", i%60))
		must(os.WriteFile(filepath.Join(dir, "many", name), bytes.Repeat([]byte{byte(i)}, i*11), os.FileMode(0o600+i%8)))
	}
	at := dir
	for i := range deep {
		at = filepath.Join(at, fmt.Sprintf("level %d", i))
		must(os.Mkdir(at, 0o711))
		must(os.WriteFile(filepath.Join(at, "file"), []byte(at), 0o640))
	}
	when := time.Unix(1_700_000_000, 0)
	must(filepath.Walk(dir, func(path string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return os.Chtimes(path, when, when)
	}))
	return dir
}

func open(t *testing.T, img string) *iso9660.FS {
	t.Helper()
	f, err := iso9660.Open(fsreadtest.OpenFile(t, img))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestRockRidgeIsTheTree(t *testing.T) {
	for name, maker := range map[string][]string{
		"genisoimage": {"genisoimage", "-quiet", "-R", "-J", "-joliet-long", "-V", "A LABEL"},
		"xorriso":     {"xorriso", "-as", "mkisofs", "-quiet", "-R", "-V", "A LABEL"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, 12) // more than the eight of ISO 9660: some lie elsewhere
			for _, target := range []string{"many/1", "/absolute/path", "../up/./x", strings.Repeat("long/", 20) + "end"} {
				if err := os.Symlink(target, filepath.Join(dir, fmt.Sprintf("link%d", len(target)))); err != nil {
					t.Fatal(err)
				}
			}
			img := filepath.Join(t.TempDir(), "img.iso")
			fsreadtest.Run(t, maker[0], append(append([]string(nil), maker[1:]...), "-o", img, dir)...)
			f := open(t, img)
			if a := f.About(); a.Label != "A LABEL" || a.Type != "iso9660" || a.Notices != nil {
				t.Errorf("%+v", a)
			}
			fsreadtest.Compare(t, f, dir, []string{"link", "xattrs", "mtime"}, []string{"rr_moved"})
			e, err := f.Lookup(f.Root(), "many")
			if err != nil {
				t.Fatal(err)
			}
			if st, err := f.Stat(e.ID); err != nil || st.Modified.Unix() != 1_700_000_000 {
				t.Errorf("%+v, %v", st, err)
			}
		})
	}
}

func TestJolietAndPlainNamesAreRead(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"Größe 文.txt", "UPPER.TXT", "lower.txt"} {
		if err := os.WriteFile(filepath.Join(dir, n), []byte(n), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("LC_ALL", "C.UTF-8")
	for _, tc := range []struct {
		flags []string
		names []string
	}{
		{[]string{"-J", "-input-charset", "utf-8"}, []string{"Größe 文.txt", "UPPER.TXT", "lower.txt"}},
		{[]string{"-input-charset", "iso8859-1"}, []string{"upper.txt", "lower.txt"}},
	} {
		img := filepath.Join(t.TempDir(), "img.iso")
		fsreadtest.Run(t, "genisoimage", append(append([]string{"-quiet"}, tc.flags...), "-o", img, dir)...)
		f := open(t, img)
		for _, n := range tc.names {
			e, err := f.Lookup(f.Root(), n)
			if err != nil || e.Name != n {
				t.Errorf("%v: %q: %+v, %v", tc.flags, n, e, err)
				continue
			}
			got, err := f.Open(e.ID)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(io.NewSectionReader(got, 0, got.Size()))
			if err != nil || !strings.EqualFold(string(b), n) {
				t.Errorf("%q: %q, %v", n, b, err)
			}
		}
		if _, err := f.Lookup(f.Root(), "none"); !errors.Is(err, fsread.ErrNotExist) {
			t.Errorf("%v", err)
		}
	}
}

// A change of bytes anywhere may change what is read; it may not end in a panic, a
// loop or a broken contract.
func FuzzOpen(f *testing.F) {
	b := fsreadtest.Unpack(f, filepath.Join("testdata", "small.iso.gz")) // genisoimage -R -J -no-pad
	for i := range uint64(8) {
		f.Add(i, uint16(1<<i))
	}
	var used []int
	for at := 0; at < len(b); at += 128 {
		if len(bytes.Trim(b[at:min(len(b), at+128)], "\x00")) > 0 {
			used = append(used, at)
		}
	}
	f.Fuzz(func(t *testing.T, seed uint64, flips uint16) {
		img := bytes.Clone(b)
		r := rand.New(rand.NewPCG(seed, 0))
		for range flips {
			img[min(len(img)-1, used[r.IntN(len(used))]+r.IntN(128))] = byte(r.Uint32() >> (8 * r.IntN(4)))
		}
		if fs, err := iso9660.Open(fsreadtest.Mem(img)); err == nil {
			fsreadtest.Exhaust(t, fs, fsreadtest.Budget{Files: 400, Bytes: 64 << 10})
		}
	})
}
