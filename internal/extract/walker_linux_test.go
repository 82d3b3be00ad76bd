package extract_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/holdfast-backup/holdfast/internal/exclude"
	"github.com/holdfast-backup/holdfast/internal/extract"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// list is what a source yields, one entry a line.
func list(t testing.TB, src extract.Source) (lines []string) {
	t.Helper()
	for {
		e, err := src.Next()
		if errors.Is(err, io.EOF) {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		line := pxar.Join(src.Path())
		switch e.Kind {
		case pxar.End:
			line += " end"
		case pxar.Directory:
			line += "/"
		case pxar.Hardlink:
			line += " = " + e.Target
		case pxar.File:
			b, err := io.ReadAll(src)
			if err != nil {
				t.Fatal(err)
			}
			line += fmt.Sprintf(" %d", len(b))
		}
		lines = append(lines, line)
	}
}

func patterns(t testing.TB, texts ...string) *exclude.List {
	t.Helper()
	var all []exclude.Pattern
	for _, text := range texts {
		p, err := exclude.Parse(text, exclude.Include)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return exclude.NewList(all)
}

// forest is
//
//	/a/first  /a/keep.conf  /b/c/d/deep.conf  /b/c/link = a/first  /b/x  /conf/y
func forest() *node {
	first := file("first", "12345")
	return dir("",
		dir("a", first, file("keep.conf", "1")),
		dir("b", dir("c", dir("d", file("deep.conf", "22")), hardlink("link", first, "a/first"), hardlink("more", first, "a/first")), file("x", "333")),
		dir("conf", file("y", "4444")),
	)
}

func TestWalkerYieldsWhatIsSelected(t *testing.T) {
	a := encode(t, forest(), 2)
	for _, tc := range []struct {
		name string
		sel  extract.Selection
		want string
	}{
		{"patterns make the directories on the way", extract.Selection{Patterns: patterns(t, "*.conf")}, `
			// /a/ /a/keep.conf:1 /a:end /b/ /b/c/ /b/c/d/ /b/c/d/deep.conf:2 /b/c/d:end /b/c:end /b:end /:end`},
		{"a directory comes with all that is in it", extract.Selection{Patterns: patterns(t, "/conf", "/b/c/d/")}, `
			// /b/ /b/c/ /b/c/d/ /b/c/d/deep.conf:2 /b/c/d:end /b/c:end /b:end /conf/ /conf/y:4 /conf:end /:end`},
		{"what is taken back is not there", extract.Selection{Patterns: patterns(t, "/a", "!first")}, `
			// /a/ /a/keep.conf:1 /a:end /:end`},
		{"a link whose file is not selected is the file, the next one leads to it", extract.Selection{Patterns: patterns(t, "/b", "!/b/c/d")}, `
			// /b/ /b/c/ /b/c/link:5 /b/c/more:=:b/c/link /b/c:end /b/x:3 /b:end /:end`},
		{"a link whose file is selected stays one", extract.Selection{Patterns: patterns(t, "first", "link")}, `
			// /a/ /a/first:5 /a:end /b/ /b/c/ /b/c/link:=:a/first /b/c:end /b:end /:end`},
		{"a path is the root", extract.Selection{Path: "/b/c"}, `
			// /d/ /d/deep.conf:2 /d:end /link:5 /more:=:link /:end`},
		{"patterns are those of the archive", extract.Selection{Path: "b", Patterns: patterns(t, "/b/x")}, `
			// /x:3 /:end`},
		{"a file is in a directory", extract.Selection{Path: "/a/first"}, `
			// /first:5 /:end`},
		{"a file is called otherwise", extract.Selection{Path: "/a/first", Name: "other"}, `
			// /other:5 /:end`},
		{"a link is its file", extract.Selection{Path: "b/c/link"}, `
			// /link:5 /:end`},
		{"files in place of links", extract.Selection{Path: "b/c", Follow: true}, `
			// /d/ /d/deep.conf:2 /d:end /link:5 /more:5 /:end`},
		{"nothing", extract.Selection{Patterns: patterns(t, "nothing")}, `// /:end`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var want []string
			for f := range strings.FieldsSeq(tc.want) {
				want = append(want, strings.ReplaceAll(f, ":", " "))
			}
			if diff := cmp.Diff(want, list(t, a.walker(t, tc.sel))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestWalkerYieldsWhatAReaderDoes(t *testing.T) {
	deep := dir("bottom", file("f", "x"))
	for i := range 3 * 64 {
		deep = dir(fmt.Sprintf("d%d", i), file("a", "y"), deep, symlink("z", "a"))
	}
	a := encode(t, dir("", deep), 1)
	if diff := cmp.Diff(list(t, a.reader(t)), list(t, a.walker(t, extract.Selection{}))); diff != "" {
		t.Error(diff)
	}
}

func TestPathThatIsNotThereIsNotFound(t *testing.T) {
	a := encode(t, forest(), 1)
	for _, path := range []string{"nothing", "a/first/x", "a/..", "../a"} {
		if _, err := extract.Walk(a.archive(t), extract.Selection{Path: path}); err == nil {
			t.Errorf("%s is there", path)
		} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
