package vfs

import (
	"slices"
	"testing"
)

func TestUnsyncedFollowsRenames(t *testing.T) {
	u := newUnsynced()
	take := func(files, dirs []string) {
		t.Helper()
		var f, d []string
		for name, dir, ok := u.next(); ok; name, dir, ok = u.next() {
			if dir {
				d = append(d, name)
			} else {
				f = append(f, name)
			}
		}
		slices.Sort(f)
		slices.Sort(d)
		if !slices.Equal(f, files) || !slices.Equal(d, dirs) {
			t.Errorf("files %q, directories %q; want %q, %q", f, d, files, dirs)
		}
	}
	u.changed("d") // mkdir
	a, b := u.created("d/a"), u.created("d/b")
	u.renamed("d/b", "b", false)
	u.renamed("d", "e", true)
	take([]string{"b", "e/a"}, []string{".", "e"})
	take(nil, nil)
	u.wrote(a)
	u.renamed("e", "f", true)
	take([]string{"f/a"}, []string{"."})
	u.wrote(b)
	u.removed("b")
	u.wrote(b)
	u.closed(b)
	take(nil, []string{"."})
	u.wrote(a)
	u.closed(a)
	if u.created("x"); len(u.files) != 2 {
		t.Errorf("%d files", len(u.files))
	}
	u.renamed("f/a", "x", false) // the older x has no name now
	take([]string{"x"}, []string{".", "f"})
	if len(u.files) != 0 {
		t.Errorf("%d files are kept although they are closed and synced", len(u.files))
	}
}
