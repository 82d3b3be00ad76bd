package ext_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/ext"
	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
)

// Directories with all depths of indexes and all kinds of hashes.
func TestNamesInLargeDirectoriesAreFoundByTheirHash(t *testing.T) {
	fsreadtest.Root(t)
	for _, tc := range []struct {
		name  string
		files int
		pad   int // bytes in each name
		hash  string
		mkfs  []string
	}{
		{"one level, half MD4", 1000, 8, "half_md4", nil},
		{"one level, TEA", 1000, 40, "tea", nil},
		{"one level, legacy", 1000, 40, "legacy", nil},
		{"without checksums", 1000, 200, "", []string{"-O", "^metadata_csum"}},
		{"two levels", 20000, 30, "", nil},
		{"three levels", 40000, 246, "", []string{"-O", "large_dir"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			mkfs := append([]string{"mkfs.ext4", "-q", "-F", "-b", "1024", "-N", "45000", "-L", "a label"}, tc.mkfs...)
			img := fsreadtest.Make(t, 300*mib, mkfs...)
			if tc.hash != "" {
				fsreadtest.Run(t, "tune2fs", "-E", "hash_alg="+tc.hash, img)
			}
			dir, unmount := fsreadtest.Mount(t, img, "")
			names := map[string]bool{}
			if err := os.Mkdir(filepath.Join(dir, "d"), 0o755); err != nil {
				t.Fatal(err)
			}
			for i := range tc.files {
				n := fmt.Sprintf("%d-%s-\xff%d", i%7, strings.Repeat("ä", tc.pad/2), i)
				n = n[:min(len(n), 255)]
				names[n] = true
				if err := os.WriteFile(filepath.Join(dir, "d", n), nil, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			unmount()
			lookups(t, img, names)
		})
	}
}

func lookups(t *testing.T, img string, names map[string]bool) {
	t.Helper()
	f, err := ext.Open(fsreadtest.OpenFile(t, img))
	if err != nil {
		t.Fatal(err)
	}
	d, err := f.Lookup(f.Root(), "d")
	if err != nil || d.Kind != fsread.Directory {
		t.Fatalf("%+v, %v", d, err)
	}
	listed := 0
	if err := f.ReadDir(d.ID, func(e fsread.Entry) error {
		listed++
		if !names[e.Name] {
			t.Errorf("%q is listed", e.Name)
		}
		got, ok, err := ext.LookupIndexed(f, d.ID, e.Name)
		if err != nil || !ok || got != e {
			t.Errorf("%q: found %+v, %v, %v; listed %+v", e.Name, got, ok, err, e)
		}
		if _, ok, err := ext.LookupIndexed(f, d.ID, e.Name[1:]); !ok || !errors.Is(err, fsread.ErrNotExist) {
			t.Errorf("%q: %v, %v", e.Name[1:], ok, err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if listed != len(names) {
		t.Errorf("%d names are listed, there are %d", listed, len(names))
	}
}

// The tallest trees: a file of single blocks with holes between them, with
// extents and with indirect blocks of all levels.
func TestFragmentedFilesReadAsTheKernelReadsThem(t *testing.T) {
	fsreadtest.Root(t)
	for _, mkfs := range [][]string{
		{"mkfs.ext4", "-b", "1024"},
		{"mkfs.ext4", "-b", "1024", "-O", "^metadata_csum"},
		{"mkfs.ext2", "-b", "1024"},
		{"mkfs.ext3", "-b", "4096"},
	} {
		t.Run(strings.Join(mkfs, " "), func(t *testing.T) {
			img := fsreadtest.Make(t, 200*mib, append(mkfs, "-q", "-F", "-L", "a label")...)
			dir, unmount := fsreadtest.Mount(t, img, "")
			f, err := os.Create(filepath.Join(dir, "f"))
			if err != nil {
				t.Fatal(err)
			}
			for i := range int64(12000) { // some far away, for three levels
				if _, err := f.WriteAt([]byte(fmt.Sprint("block ", i)), i*2048+(i%5)*(1<<31)); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(f.Truncate(9<<30+5), f.Close()); err != nil {
				t.Fatal(err)
			}
			unmount()
			r, err := ext.Open(fsreadtest.OpenFile(t, img))
			if err != nil {
				t.Fatal(err)
			}
			dir, _ = fsreadtest.Mount(t, img, "ro")
			fsreadtest.CompareSparse(t, r, "f", filepath.Join(dir, "f"))
		})
	}
}
