package browse

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/exclude"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

func TestCleanStaysBelowTheRoot(t *testing.T) {
	for _, tc := range [][3]string{
		{"/", "", "/"},
		{"/", "a", "/a"},
		{"/a/b", "c", "/a/b/c"},
		{"/a/b", "/c", "/c"},
		{"/a/b", "..", "/a"},
		{"/a/b", "../../../../c", "/c"},
		{"/a", "./b//c/.", "/a/b/c"},
		{"/a", "/", "/"},
		{"/a", "/b/", "/b"},
		{"/a", "\xff\n*", "/a/\xff\n*"},
	} {
		if got := Clean(tc[0], tc[1]); got != tc[2] {
			t.Errorf("%q in %q is %q, want %q", tc[1], tc[0], got, tc[2])
		}
	}
}

func TestPatternsCountFromWhereTheyAreWritten(t *testing.T) {
	for _, tc := range []struct {
		at, text, matches, other string
	}{
		{"/", "*.conf", "/a.conf", "/etc/a.conf"},
		{"/etc", "*.conf", "/etc/a.conf", "/a.conf"},
		{"/etc", "*.conf", "/etc/a.conf", "/x/etc/a.conf"},
		{"/etc", "**/*.conf", "/etc/a/b/c.conf", "/usr/c.conf"},
		{"/etc", "/usr/*", "/usr/bin", "/etc/usr/bin"},
		{"/etc", "../usr", "/usr", "/etc/usr"},
		{"/[a]*", "x?", "/[a]*/xy", "/ab/xy"},
		{"/!a", "b", "/!a/b", "/a/b"},
	} {
		p, err := Pattern(tc.at, tc.text)
		if err != nil || !p.Match([]byte(tc.matches), false) || p.Match([]byte(tc.other), false) || p.Action() != exclude.Include {
			t.Errorf("%q in %q: %v, %v", tc.text, tc.at, p, err)
		}
	}
	if p, err := Pattern("/etc", "!ssl"); err != nil || p.Action() != exclude.Exclude || !p.Match([]byte("/etc/ssl"), true) {
		t.Errorf("%v, %v", p, err)
	}
	if _, err := Pattern("/", "[a"); err == nil {
		t.Error("an open set is a pattern")
	}
}

func TestQuotedPathIsAPatternForItselfAlone(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	for range 2000 {
		name, other := randomName(rng), randomName(rng)
		quoted := exclude.Quote(name)
		if IsGlob(quoted) || unquote(quoted) != name {
			t.Fatalf("%q is quoted as %q, which means %q", name, quoted, unquote(quoted))
		}
		p, err := Pattern("/", "/"+quoted)
		if err != nil || !p.Match([]byte("/"+name), false) || name != other && p.Match([]byte("/"+other), false) {
			t.Fatalf("%q as a pattern: %v, %v; other: %q", name, p, err, other)
		}
	}
}

func TestGlobLooksNoDeeperThanItsPattern(t *testing.T) {
	root := &node{Entry: pxar.Entry{Kind: pxar.Directory, Metadata: pxar.Metadata{Mode: pxar.ModeDirectory}}}
	for i := range 3 {
		dir := &node{Entry: pxar.Entry{Name: fmt.Sprint("d", i), Kind: pxar.Directory, Metadata: pxar.Metadata{Mode: pxar.ModeDirectory}}}
		for k := range 3 {
			sub := &node{Entry: pxar.Entry{Name: fmt.Sprint("s", k), Kind: pxar.Directory, Metadata: pxar.Metadata{Mode: pxar.ModeDirectory}}}
			sub.kids = []*node{{Entry: pxar.Entry{Name: "f", Kind: pxar.FIFO, Metadata: pxar.Metadata{Mode: pxar.ModeFIFO}}}}
			dir.kids = append(dir.kids, sub)
		}
		root.kids = append(root.kids, dir)
	}
	for form, tree := range forms(t, root) {
		for pattern, want := range map[string]string{
			"d?":        "/d0 /d1 /d2",
			"d1/*":      "/d1/s0 /d1/s1 /d1/s2",
			"*/s1/f":    "/d0/s1/f /d1/s1/f /d2/s1/f",
			"*/s1/":     "/d0/s1 /d1/s1 /d2/s1",
			"/d2/s?/":   "/d2/s0 /d2/s1 /d2/s2",
			"*/*/f/":    "",
			"none/*":    "",
			"d0/s0/f/*": "",
			"d0":        "/d0",
			`d\0/s\1`:   "/d0/s1",
			"..":        "/",
		} {
			var got []string
			err := tree.Glob(t.Context(), "/", pattern, func(path []byte, _ *Entry) error {
				got = append(got, string(path))
				return nil
			})
			if err != nil || strings.Join(got, " ") != want {
				t.Errorf("%s: %q: %q, %v, want %q", form, pattern, got, err, want)
			}
		}
		if err := tree.Glob(t.Context(), "/", "none", nil); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", form, err)
		}
	}
	// Of what lies deeper not even the beginning is read.
	tree := forms(t, root)["version 2"]
	counted := &counting{source: tree.src}
	tree.src = counted
	if err := tree.Glob(t.Context(), "/", "d1/s*", func([]byte, *Entry) error { return nil }); err != nil || counted.seen != 3 {
		t.Errorf("%d entries were looked at, %v", counted.seen, err)
	}
}

// counting counts the entries of walks.
type counting struct {
	source
	seen int
}

func (c *counting) walk(dir *Entry, base []byte, f Func) error {
	return c.source.walk(dir, base, func(path []byte, e *Entry) error {
		c.seen++
		return f(path, e)
	})
}

func TestCompletionFindsWhatNamesHaveInCommon(t *testing.T) {
	root := &node{Entry: pxar.Entry{Kind: pxar.Directory, Metadata: pxar.Metadata{Mode: pxar.ModeDirectory}}}
	for _, name := range []string{"bin", "büro1", "büroß", "ebü", "ebó", "etc", "lib32", "lib64", "x\xff1", "x\xff2"} {
		root.kids = append(root.kids, &node{Entry: pxar.Entry{Name: name, Kind: pxar.Directory, Metadata: pxar.Metadata{Mode: pxar.ModeDirectory}}})
	}
	for form, tree := range forms(t, root) {
		for prefix, want := range map[string]struct {
			common string
			count  int
		}{
			"":    {"", 10},
			"l":   {"lib", 2},
			"lib": {"lib", 2},
			"bi":  {"bin", 1},
			"bü":  {"büro", 2},
			"eb":  {"eb", 2}, // not half of a character
			"x":   {"x\xff", 2},
			"q":   {"q", 0},
		} {
			c, err := tree.Complete(t.Context(), "/", prefix, 1, nil)
			if err != nil || c.Common != want.common || c.Count != want.count || len(c.Some) != min(want.count, 1) {
				t.Errorf("%s: %q: %+v, %v", form, prefix, c, err)
			}
		}
		c, err := tree.Complete(t.Context(), "/", "", 100, func(e *Entry) bool { return strings.HasPrefix(e.Name, "e") })
		if err != nil || c.Count != 3 || !slices.ContainsFunc(c.Some, func(e Entry) bool { return e.Name == "etc" }) {
			t.Errorf("%s: %+v, %v", form, c, err)
		}
		if _, err := tree.Complete(context.Background(), "/none", "", 1, nil); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", form, err)
		}
	}
}
