package treestream_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/filerestore/treestream"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// file is one of a file system in memory. Those with entries are directories.
type file struct {
	entries []fsread.Entry
	content string
	target  string
	links   uint32
	broken  error
}

// fake is a file system in memory, whose root has the number 0.
type fake []file

var _ fsread.FS = fake(nil)

func (f fake) About() fsread.About { return fsread.About{Type: "fake"} }
func (f fake) Root() fsread.ID     { return fsread.ID{} }

func (f fake) Stat(id fsread.ID) (fsread.Stat, error) {
	n := f[id.Number]
	st := fsread.Stat{ID: id, Kind: fsread.Regular, Mode: 0o640, Links: max(1, n.links), Size: int64(len(n.content))}
	switch {
	case n.entries != nil:
		st.Kind = fsread.Directory
	case n.target != "":
		st.Kind = fsread.Symlink
	}
	return st, n.broken
}

func (f fake) ReadDir(id fsread.ID, each func(fsread.Entry) error) error {
	for _, e := range f[id.Number].entries {
		if err := each(e); err != nil {
			return err
		}
	}
	return nil
}

func (f fake) Lookup(dir fsread.ID, name string) (fsread.Entry, error) {
	return fsread.LookupLinear(f, dir, name)
}
func (f fake) Readlink(id fsread.ID) (string, error)    { return f[id.Number].target, nil }
func (f fake) Xattrs(fsread.ID) ([]fsread.Xattr, error) { return nil, nil }
func (f fake) Open(id fsread.ID) (image.Image, error)   { return mem(f[id.Number].content), nil }

func name(name string, number uint64) fsread.Entry {
	return fsread.Entry{Name: name, ID: fsread.ID{Number: number}}
}

type mem string

func (m mem) Size() int64 { return int64(len(m)) }

func (m mem) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader([]byte(m)).ReadAt(p, off)
}

// tell writes what a source yields, one entry a line.
func tell(t *testing.T, s *treestream.Source) string {
	t.Helper()
	var b strings.Builder
	for {
		e, err := s.Next()
		if errors.Is(err, io.EOF) {
			return b.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == pxar.End {
			fmt.Fprintln(&b, "end")
			continue
		}
		content, err := io.ReadAll(s)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%v /%s %o %q%s\n", e.Kind, strings.Join(s.Path(), "/"), e.Mode, content, e.Target)
	}
}

// tree has a file with three names, of which one is outside of the directory sub.
var tree = fake{
	{entries: []fsread.Entry{name("z", 2), name("sub", 1), name("link", 3)}},
	{entries: []fsread.Entry{name("b", 2), name("a", 2)}},
	{content: "hello", links: 3},
	{target: "sub/a"},
}

func TestEntriesComeInOrderAndFurtherNamesAsLinks(t *testing.T) {
	s, err := treestream.New(tree, fsread.Entry{}, treestream.Options{})
	if err != nil {
		t.Fatal(err)
	}
	const want = `directory / 40640 ""
symlink /link 120640 ""sub/a
directory /sub 40640 ""
file /sub/a 100640 "hello"
hardlink /sub/b 0 ""sub/a
end
hardlink /z 0 ""sub/a
end
`
	if got := tell(t, s); got != want {
		t.Errorf("%s\nwant:\n%s", got, want)
	}
}

func TestLinksAreFilesWhereThatIsWanted(t *testing.T) {
	s, err := treestream.New(tree, name("sub", 1), treestream.Options{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := tell(t, s); strings.Count(got, `"hello"`) != 2 {
		t.Error(got)
	}
}

func TestAFileIsADirectoryWithThisOne(t *testing.T) {
	s, err := treestream.New(tree, name("z", 2), treestream.Options{Name: "other"})
	if err != nil {
		t.Fatal(err)
	}
	if got := tell(t, s); !s.IsFile() || !strings.Contains(got, `file /other 100640 "hello"`) || strings.Count(got, "end") != 1 {
		t.Error(got)
	}
}

func TestWhatCannotBeReadIsToldAndLeftOut(t *testing.T) {
	f := fake{
		{entries: []fsread.Entry{name("bad", 1), name("good", 2)}},
		{broken: errors.New("a damaged inode")},
		{content: "x"},
	}
	var told string
	s, err := treestream.New(f, fsread.Entry{}, treestream.Options{Problem: func(path string, err error) error {
		told += path + ": " + err.Error()
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if got := tell(t, s); !strings.Contains(got, "/good") || strings.Contains(got, "/bad") || told != "/bad: a damaged inode" {
		t.Errorf("%s, told %q", got, told)
	}
	if s, err = treestream.New(f, fsread.Entry{}, treestream.Options{}); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = s.Next()
	}
	if !strings.Contains(err.Error(), "/bad: a damaged inode") {
		t.Errorf("without anybody to tell: %v", err)
	}
}

func TestADirectoryInItselfEnds(t *testing.T) {
	f := fake{{entries: []fsread.Entry{name("again", 0)}}}
	s, err := treestream.New(f, fsread.Entry{}, treestream.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; err == nil; n++ {
		if _, err = s.Next(); n > 2*pxar.MaxDepth {
			t.Fatal("there is no end")
		}
	}
	if errors.Is(err, io.EOF) {
		t.Error("it ended as if it were whole")
	}
}
