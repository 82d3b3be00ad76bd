package fsreadtest

import (
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// Budget bounds what [Exhaust] looks at.
type Budget struct {
	Files int   // visited
	Bytes int64 // of content read from each file, at its start and its end
}

var errEnough = errors.New("enough was seen")

// Exhaust looks at everything that f shows, within the budget, and fails t where
// f breaks its contract: names that cannot be names, sizes below zero, contents
// that are longer than they say, extents that go nowhere. Errors of f are fine.
func Exhaust(t testing.TB, f fsread.FS, b Budget) {
	t.Helper()
	_ = f.About()
	todo, seen := []fsread.ID{f.Root()}, map[fsread.ID]bool{f.Root(): true}
	for len(todo) > 0 && b.Files > 0 {
		id := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		b.Files--
		st, err := f.Stat(id)
		if err != nil {
			continue
		}
		if st.Size < 0 || st.Kind == fsread.Unknown || st.Mode&^0o7777 != 0 {
			t.Fatalf("stat of %v: %+v", id, st)
		}
		_, _ = f.Xattrs(id)
		switch st.Kind {
		case fsread.Directory:
			n := 0
			err := f.ReadDir(id, func(e fsread.Entry) error {
				if n++; n > b.Files {
					return errEnough
				}
				if e.Name == "" || e.Name == "." || e.Name == ".." || strings.ContainsAny(e.Name, "/\x00") {
					t.Fatalf("%q is a name in %v", e.Name, id)
				}
				if !seen[e.ID] {
					seen[e.ID] = true
					todo = append(todo, e.ID)
				}
				return nil
			})
			if errors.Is(err, errEnough) {
				b.Files = 0
			}
			_, _ = f.Lookup(id, "no such name")
		case fsread.Symlink:
			_, _ = f.Readlink(id)
		case fsread.Regular:
			content(t, f, id, b.Bytes)
		}
	}
}

func content(t testing.TB, f fsread.FS, id fsread.ID, limit int64) {
	t.Helper()
	img, err := f.Open(id)
	if err != nil {
		return
	}
	if img.Size() < 0 {
		t.Fatalf("the content of %v has %d bytes", id, img.Size())
	}
	n := min(limit, img.Size())
	buf := make([]byte, n+1)
	for _, off := range []int64{0, img.Size() - n} {
		if got, err := img.ReadAt(buf, off); err == nil || int64(got) > img.Size()-off {
			if off+int64(len(buf)) > img.Size() {
				t.Fatalf("%v: read %d bytes at %d of %d, error %v", id, got, off, img.Size(), err)
			}
		}
	}
	for off, i := int64(0), 0; off < img.Size() && i < 1000; i++ {
		e, err := image.ExtentAt(img, off)
		if err != nil {
			return
		}
		if e.Offset != off || e.Length < 1 || e.End() > img.Size() {
			t.Fatalf("%v: extent %+v at %d of %d", id, e, off, img.Size())
		}
		off = e.End()
	}
}
