package browse

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/holdfast-backup/holdfast/internal/exclude"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// seen is what every form of a tree knows of an entry.
type seen struct {
	Path  string
	Kind  string
	Size  uint64
	Mtime int64 // of a file
}

func see(path string, e *Entry) seen {
	s := seen{Path: path, Kind: e.Kind.String(), Size: e.Size}
	if e.Kind == pxar.File {
		s.Mtime = e.Mtime.Sec
	}
	return s
}

// want is a tree in the order of the archive.
func (n *node) want(path string) (all []seen) {
	for _, k := range n.kids {
		e := ofArchive(&k.Entry)
		at := Join(path, k.Name)
		all = append(append(all, see(at, &e)), k.want(at)...)
	}
	return all
}

func walked(t *testing.T, tree *Tree, path string) (all []seen) {
	t.Helper()
	err := tree.Walk(t.Context(), path, func(p []byte, e *Entry) error {
		all = append(all, see(string(p), e))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestAllFormsOfATreeShowTheSame(t *testing.T) {
	for seed := range uint64(16) {
		rng := rand.New(rand.NewPCG(seed, 1))
		root := randomTree(rng, 1+rng.IntN(150))
		want := root.want("/")
		for form, tree := range forms(t, root) {
			where := fmt.Sprintf("seed %d, %s", seed, form)
			if diff := cmp.Diff(want, walked(t, tree, "/")); diff != "" {
				t.Fatalf("%s: walk: %s", where, diff)
			}
			lists := map[string][]string{} // by directory
			for _, s := range want {
				e, err := tree.Lookup(t.Context(), s.Path)
				if got := see(s.Path, &e); err != nil || got != s {
					t.Fatalf("%s: lookup gives %+v, %v, want %+v", where, got, err, s)
				}
				i := strings.LastIndexByte(s.Path, '/')
				dir := s.Path[:max(i, 1)]
				lists[dir] = append(lists[dir], s.Path[i+1:])
			}
			for dir, names := range lists {
				if got := listed(t, tree.List(t.Context(), dir)); !slices.Equal(got, names) {
					t.Fatalf("%s: %q lists %q, want %q", where, dir, got, names)
				}
				sortedNames := slices.Sorted(slices.Values(names))
				if got := listed(t, tree.Sorted(t.Context(), dir)); !slices.Equal(got, sortedNames) {
					t.Fatalf("%s: %q lists %q, want %q", where, dir, got, sortedNames)
				}
				var below []seen
				for _, s := range want {
					if strings.HasPrefix(s.Path, strings.TrimSuffix(dir, "/")+"/") {
						below = append(below, s)
					}
				}
				if diff := cmp.Diff(below, walked(t, tree, dir)); diff != "" {
					t.Fatalf("%s: walk of %q: %s", where, dir, diff)
				}
			}
			findAll(t, rng, where, tree, want)
		}
	}
}

func listed(t *testing.T, list func(func(Entry, error) bool)) (names []string) {
	t.Helper()
	for e, err := range list {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, e.Name)
	}
	return names
}

// findAll holds searches against a look at every path.
func findAll(t *testing.T, rng *rand.Rand, where string, tree *Tree, want []seen) {
	t.Helper()
	at := "/"
	for _, s := range want {
		if s.Kind == "directory" && rng.IntN(10) == 0 {
			at = s.Path
		}
	}
	for _, text := range []string{"*", "*/*", "**/a*", "/*/b*", "[ab]*", "?", "**/*\xff*", "!x", "*/**/*", "none"} {
		p, err := Pattern(at, text)
		if err != nil {
			t.Fatal(err)
		}
		var expect, got []string
		for _, s := range want {
			if p.Match([]byte(s.Path), s.Kind == "directory") && p.Action() == exclude.Include {
				expect = append(expect, s.Path)
			}
		}
		collect := func(path []byte, _ *Entry) error { got = append(got, string(path)); return nil }
		if p.Action() == exclude.Include {
			if err := tree.Find(t.Context(), "/", p, collect); err != nil || !slices.Equal(got, expect) {
				t.Fatalf("%s: find %q from %q gives %q, %v, want %q", where, text, at, got, err, expect)
			}
			got = nil
		}
		if err := tree.Glob(t.Context(), at, text, collect); IsGlob(text) && (err != nil || !slices.Equal(got, expect)) {
			t.Fatalf("%s: glob %q in %q gives %q, %v, want %q", where, text, at, got, err, expect)
		}
	}
}

func TestSamplesShowWhatTheyHold(t *testing.T) {
	const samples = "../format/pxar/testdata"
	for _, name := range []string{"tiny.pxar", "tiny.mpxar", "tiny-prelude.mpxar", "full.pxar", "full.mpxar", "entry-v1.pxar", "reuse.mpxar"} {
		b, err := os.ReadFile(filepath.Join(samples, name))
		if err != nil {
			t.Fatal(err)
		}
		tree := archiveOf(t, b)
		r, err := pxar.NewReader(strings.NewReader(string(b)), nil)
		if err != nil {
			t.Fatal(err)
		}
		type full struct {
			Path string
			pxar.Entry
		}
		of := func(path string, e *pxar.Entry) full {
			f := full{path, *e}
			f.EndPos = 0 // a Reader knows it later
			return f
		}
		var want, got []full
		for {
			e, err := r.Next()
			if err != nil {
				break
			}
			if e.Kind != pxar.End && len(r.Path()) > 0 {
				want = append(want, of(pxar.Join(r.Path()), e))
			}
		}
		err = tree.Walk(t.Context(), "/", func(path []byte, e *Entry) error {
			got = append(got, of(string(path), e.File))
			return nil
		})
		if err != nil || len(want) == 0 {
			t.Fatalf("%s: %d entries, %v", name, len(want), err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	b, err := os.ReadFile("../format/catalog/testdata/tiny.pcat1")
	if err != nil {
		t.Fatal(err)
	}
	want := []seen{
		{"/tiny.pxar.didx", "directory", 0, 0},
		{"/tiny.pxar.didx/d", "directory", 0, 0},
		{"/tiny.pxar.didx/d/f", "file", 3, 1700000002},
		{"/tiny.pxar.didx/l", "symlink", 0, 0},
	}
	if diff := cmp.Diff(want, walked(t, catalogOf(t, b), "/")); diff != "" {
		t.Error(diff)
	}
}

func TestHardLinkLeadsToItsFile(t *testing.T) {
	file := &node{Entry: pxar.Entry{Name: "a", Kind: pxar.File, Size: 7, Metadata: pxar.Metadata{Mode: pxar.ModeFile | 0o640}}}
	root := &node{Entry: pxar.Entry{Kind: pxar.Directory, Metadata: pxar.Metadata{Mode: pxar.ModeDirectory}}, kids: []*node{
		file, {Entry: pxar.Entry{Name: "b", Kind: pxar.Hardlink, Target: "a"}, first: file},
	}}
	for form, tree := range forms(t, root) {
		link, err := tree.Lookup(t.Context(), "/b")
		if err != nil || link.Kind != pxar.Hardlink || link.HasMtime() {
			t.Fatalf("%s: %+v, %v", form, link, err)
		}
		to, err := tree.Target(link)
		if err != nil {
			t.Fatal(err)
		}
		if form == "catalog" {
			if to.Kind != pxar.Hardlink {
				t.Errorf("a catalog knows that the link leads to %+v", to)
			}
			continue
		}
		if to.Name != "a" || to.Size != 7 || to.File.Mode != pxar.ModeFile|0o640 {
			t.Errorf("%s: %+v", form, to)
		}
	}
}

func TestWhatIsNotThereIsNotFoundAndFilesAreNoDirectories(t *testing.T) {
	root := randomTree(rand.New(rand.NewPCG(3, 3)), 50)
	root.kids = append(root.kids, &node{Entry: pxar.Entry{Name: "file", Kind: pxar.File, Metadata: pxar.Metadata{Mode: pxar.ModeFile}}})
	for form, tree := range forms(t, root) {
		for _, path := range []string{"/none", "/none/x", "/file/x", "/..", "/" + strings.Repeat("x", 5000), "/a\x00b"} {
			if _, err := tree.Lookup(t.Context(), path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: lookup of %.20q: %v", form, path, err)
			}
		}
		for e, err := range tree.List(t.Context(), "/file") {
			if !errors.Is(err, ErrNotDir) {
				t.Errorf("%s: list of a file: %v, %v", form, e, err)
			}
		}
		if err := tree.Walk(t.Context(), "/file", nil); !errors.Is(err, ErrNotDir) {
			t.Errorf("%s: walk of a file: %v", form, err)
		}
		if _, err := tree.Below(t.Context(), "/file"); !errors.Is(err, ErrNotDir) {
			t.Errorf("%s: %v", form, err)
		}
	}
}

func TestWalkDoesAsItIsTold(t *testing.T) {
	file := func(name string) *node {
		return &node{Entry: pxar.Entry{Name: name, Kind: pxar.File, Metadata: pxar.Metadata{Mode: pxar.ModeFile}}}
	}
	dir := func(name string, kids ...*node) *node {
		return &node{Entry: pxar.Entry{Name: name, Kind: pxar.Directory, Metadata: pxar.Metadata{Mode: pxar.ModeDirectory}}, kids: kids}
	}
	root := dir("", dir("a", file("1"), dir("b", file("2")), file("3")), file("4"))
	broken := errors.New("broken")
	for form, tree := range forms(t, root) {
		for _, tc := range []struct {
			at   string
			say  error
			want string
		}{
			{"", nil, "/a /a/1 /a/b /a/b/2 /a/3 /4"},
			{"/a", fs.SkipDir, "/a /4"},
			{"/a/1", fs.SkipDir, "/a /a/1 /4"},
			{"/a/b", fs.SkipDir, "/a /a/1 /a/b /a/3 /4"},
			{"/a/b/2", fs.SkipDir, "/a /a/1 /a/b /a/b/2 /a/3 /4"},
			{"/a/b", fs.SkipAll, "/a /a/1 /a/b"},
			{"/a/b", broken, "/a /a/1 /a/b"},
		} {
			var got []string
			err := tree.Walk(t.Context(), "/", func(path []byte, _ *Entry) error {
				got = append(got, string(path))
				if string(path) == tc.at {
					return tc.say
				}
				return nil
			})
			if strings.Join(got, " ") != tc.want {
				t.Errorf("%s, %v at %q: %q, want %q", form, tc.say, tc.at, got, tc.want)
			}
			if wantErr := errors.Is(tc.say, broken); errors.Is(err, broken) != wantErr || err != nil && !wantErr {
				t.Errorf("%s, %v at %q: %v", form, tc.say, tc.at, err)
			}
		}
	}
}

func TestCancelledContextEndsEverything(t *testing.T) {
	why := errors.New("enough")
	for form, tree := range forms(t, randomTree(rand.New(rand.NewPCG(1, 1)), 300)) {
		ctx, cancel := context.WithCancelCause(t.Context())
		n := 0
		err := tree.Walk(ctx, "/", func([]byte, *Entry) error {
			if n++; n == 5 {
				cancel(why)
			}
			return nil
		})
		if !errors.Is(err, why) || n != 5 {
			t.Errorf("%s: walk: %v after %d entries", form, err, n)
		}
		for _, list := range []func(func(Entry, error) bool){tree.List(ctx, "/"), tree.Sorted(ctx, "/")} {
			for e, err := range list {
				if !errors.Is(err, why) {
					t.Errorf("%s: list: %v, %v", form, e, err)
				}
			}
		}
		if _, err := tree.Lookup(ctx, "/x"); !errors.Is(err, why) {
			t.Errorf("%s: lookup: %v", form, err)
		}
	}
}
