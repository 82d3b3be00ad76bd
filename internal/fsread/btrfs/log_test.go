package btrfs

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
)

// The image log.gz was taken when d/e was changed and d/new made, b had got the name d/link too,
// a was renamed to moved and c removed, each written by fsync, and nothing of it committed.
func TestALogIsAppliedOrLeftAsAWhole(t *testing.T) {
	img := fsreadtest.LoadSparse(t, filepath.Join("testdata", "log.gz"))
	names := func(f *FS) string {
		var all []string
		for _, dir := range []string{"", "d"} {
			id := f.Root()
			if dir != "" {
				e, err := f.Lookup(id, dir)
				if err != nil {
					t.Fatal(err)
				}
				id = e.ID
			}
			err := f.ReadDir(id, func(e fsread.Entry) error { all = append(all, dir+"/"+e.Name); return nil })
			if err != nil {
				t.Fatal(err)
			}
		}
		slices.Sort(all)
		return strings.Join(all, " ")
	}
	f, err := Open(img)
	if err != nil {
		t.Fatal(err)
	}
	if got := names(f); got != "/b /d /moved d/e d/link d/new" {
		t.Errorf("%s", got)
	}
	if n := f.About().Notices; len(n) != 1 || !strings.Contains(n[0], "it is applied") {
		t.Errorf("%q", n)
	}
	e, err := f.Lookup(f.Root(), "b")
	if err != nil {
		t.Fatal(err)
	}
	if st, err := f.Stat(e.ID); err != nil || st.Links != 2 {
		t.Errorf("%+v, %v", st, err)
	}

	// The root of the log is damaged: what was committed is there.
	super := img.Blocks[superAt/fsreadtest.SparseBlock]
	ways, _, err := f.place(le.Uint64(super[96:]))
	if err != nil {
		t.Fatal(err)
	}
	img.Blocks = maps.Clone(img.Blocks)
	block := slices.Clone(img.Blocks[ways[0][0].at/fsreadtest.SparseBlock])
	block[200] ^= 1
	img.Blocks[ways[0][0].at/fsreadtest.SparseBlock] = block
	if f, err = Open(img); err != nil {
		t.Fatal(err)
	}
	if got := names(f); got != "/a /b /c /d d/e" {
		t.Errorf("%s", got)
	}
	if n := f.About().Notices; len(n) != 1 || !strings.Contains(n[0], "it is not applied (btrfs: damaged") {
		t.Errorf("%q", n)
	}
}
