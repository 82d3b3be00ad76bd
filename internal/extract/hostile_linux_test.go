package extract_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/holdfast-backup/holdfast/internal/extract"
	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"golang.org/x/sys/unix"
)

// yard is a directory "outside" that nothing may touch, and beside it a target.
type yard struct {
	outside, target string
	was             map[string]unix.Stat_t
}

func newYard(t testing.TB) *yard {
	t.Helper()
	root := t.TempDir()
	y := &yard{outside: filepath.Join(root, "outside"), target: filepath.Join(root, "target")}
	for _, d := range []string{y.outside, y.outside + "/sub", y.target} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"f", "sub/f", "x"} {
		if err := os.WriteFile(filepath.Join(y.outside, f), []byte("precious"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	y.was = y.look(t)
	return y
}

// look takes everything that a change would change: the change time is the
// kernel's alone.
func (y *yard) look(t testing.TB) map[string]unix.Stat_t {
	t.Helper()
	all := map[string]unix.Stat_t{}
	err := filepath.WalkDir(y.outside, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		err = unix.Lstat(path, &st)
		st.Atim = unix.Timespec{}
		all[path] = st
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func (y *yard) untouched(t testing.TB) {
	t.Helper()
	if diff := cmp.Diff(y.was, y.look(t)); diff != "" {
		t.Errorf("outside was touched:\n%s", diff)
	}
}

// manners are ways to extract.
var manners = map[string]extract.Options{
	"new":               {},
	"over what exists":  {Existing: extract.Dirs | extract.Anything},
	"in place":          {InPlace: true},
	"in place, exactly": {InPlace: true, Checksum: true, Delete: true},
}

// Nothing of what an archive says leads out of the target, in no manner.
func TestHostileArchivesStayInTheTarget(t *testing.T) {
	for name, tree := range map[string]func(out string) *node{
		"directory behind a link of its name": func(out string) *node {
			return dir("", symlink("x", out), dir("x", file("f", "evil"), dir("sub", file("f", "evil"))))
		},
		"file behind a link of its name": func(out string) *node { return dir("", symlink("x", out+"/f"), file("x", "evil")) },
		"link behind a directory":        func(out string) *node { return dir("", dir("x", file("f", "evil")), symlink("x", out)) },
		"link, directory, link, directory": func(out string) *node {
			return dir("", symlink("x", out), dir("x", file("f", "evil")), symlink("x", out), dir("x", file("x", "evil")))
		},
		"directory behind a file": func(string) *node { return dir("", file("x", "1"), dir("x", file("f", "2"))) },
		"file behind a directory": func(string) *node { return dir("", dir("x", file("f", "2")), file("x", "1")) },
		"hard link through a link": func(out string) *node {
			f := file("f", "mine")
			return dir("", dir("a", f), symlink("x", out), hardlink("y", f, "x/f"))
		},
		"hard link through the link in the middle": func(out string) *node {
			f := file("f", "mine")
			return dir("", dir("a", f), dir("b", symlink("x", out)), hardlink("y", f, "b/x/sub/f"))
		},
		"hard link to a link": func(out string) *node {
			f := file("f", "mine")
			return dir("", f, symlink("x", out+"/f"), hardlink("y", f, "x"))
		},
		"hard link to a directory": func(string) *node {
			f := file("f", "mine")
			return dir("", f, dir("x"), hardlink("y", f, "x"))
		},
		"hard link to itself": func(string) *node {
			f := file("f", "mine")
			return dir("", f, hardlink("y", f, "y"))
		},
		"hard link that was replaced by a link": func(out string) *node {
			f := file("f", "mine")
			return dir("", f, symlink("f", out+"/f"), hardlink("y", f, "f"), file("y", "evil"))
		},
		"links around": func(out string) *node {
			return dir("", symlink("a", "b"), symlink("b", "a"), dir("a", file("f", "x")), symlink("c", ".."))
		},
		"name that is too long for the file system": func(string) *node {
			return dir("", file(strings.Repeat("n", 300), "1"), dir(strings.Repeat("m", 4096), file("f", "2")), file("z", "3"))
		},
		"same file twice": func(string) *node { return dir("", file("x", "1"), file("x", "2"), file("x", "3")) },
	} {
		for manner, o := range manners {
			t.Run(name+"/"+manner, func(t *testing.T) {
				y := newYard(t)
				a := encode(t, tree(y.outside), 1)
				res, err := extract.Directory(t.Context(), a.reader(t), y.target, o)
				if err == nil && res.Asked.Entries() == 0 {
					t.Error("nothing was done")
				}
				if err != nil && !errors.Is(err, extract.ErrExists) {
					t.Errorf("%v", err)
				}
				y.untouched(t)
				noParts(t, y.target)
			})
		}
	}
}

// noParts makes sure that nothing temporary is left.
func noParts(t testing.TB, target string) {
	t.Helper()
	_ = filepath.WalkDir(target, func(path string, _ fs.DirEntry, _ error) error {
		if strings.HasSuffix(path, ".holdfast-part") {
			t.Errorf("%s is left", path)
		}
		return nil
	})
}

// A link that somebody put into the target, at any place on the way to a file, is
// never followed.
func TestLinksInTheTargetAreNotFollowed(t *testing.T) {
	f := file("f", "new")
	tree := dir("", dir("a", dir("b", dir("c", f, symlink("l", "x"), hardlink("g", f, "a/b/c/f")))))
	a := encode(t, tree, 2)
	for _, at := range []string{"a", "a/b", "a/b/c", "a/b/c/f", "a/b/c/g", "a/b/c/l"} {
		for manner, o := range manners {
			y := newYard(t)
			path := filepath.Join(y.target, at)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			to := y.outside
			if at == "a/b/c/f" || at == "a/b/c/g" {
				to += "/f"
			}
			if err := os.Symlink(to, path); err != nil {
				t.Fatal(err)
			}
			res, err := extract.Directory(t.Context(), a.reader(t), y.target, o)
			y.untouched(t)
			noParts(t, y.target)
			switch {
			case o.InPlace:
				if err != nil || !res.Complete() {
					t.Errorf("%s at %s: %v, %+v", manner, at, err, res)
				}
				compare(t, tree, y.target)
			case !errors.Is(err, extract.ErrExists) && (o.Existing == 0 || strings.Count(at, "/") < 3):
				t.Errorf("%s at %s: %v", manner, at, err)
			}
		}
	}
}

func TestDirectoriesInEachOtherNeedFewDescriptors(t *testing.T) {
	const depth = 1000
	tree := dir("bottom", file("f", "x"))
	for i := range depth {
		tree = dir("d", file("a", "y"), tree, file("z", fmt.Sprint(i)))
	}
	a := encode(t, dir("", tree), 1)
	y := newYard(t)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	few := unix.Rlimit{Cur: 512, Max: limit.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
	}()
	for _, o := range []extract.Options{{Problem: problem(t)}, {InPlace: true, Delete: true, Problem: problem(t)}} {
		res, err := extract.Directory(t.Context(), a.reader(t), y.target, o)
		if err != nil || !res.Complete() {
			t.Fatalf("%v, %+v", err, res)
		}
	}
	v, err := extract.Verify(t.Context(), a.reader(t), y.target, extract.VerifyOptions{Problem: problem(t)})
	if err != nil || !v.Explained(&extract.Result{}) || v.Same.Dirs != depth+2 {
		t.Errorf("%v, %+v", err, v)
	}
	// What is removed may be as deep.
	res, err := extract.Directory(t.Context(), encode(t, dir(""), 1).reader(t), y.target, extract.Options{InPlace: true, Delete: true, Problem: problem(t)})
	if err != nil || res.Deleted != 3*depth+2 {
		t.Errorf("%v, %+v", err, res)
	}
}

// An archive that is cut short anywhere is an error, and what got its name is
// whole.
func TestArchiveThatIsCutShortLeavesNothingThatLooksWhole(t *testing.T) {
	tree := sample()
	for _, k := range tree.kids {
		if len(k.content) > 9999 {
			k.content = k.content[:9999]
		}
	}
	want := tree.expect()
	a := encode(t, tree, 1)
	for n := 0; n < len(a.meta); n += 1 + n/300 {
		r, err := pxar.NewReader(bytes.NewReader(a.meta[:n]), nil)
		if err == nil {
			target := t.TempDir()
			_, err = extract.Directory(t.Context(), r, target, extract.Options{Skip: filemeta.SetOf(filemeta.Mode)})
			for name, f := range walkTree(t, target) {
				if w := want[name]; name != "/" && (w.Kind != f.Kind || w.Content != f.Content || w.Target != f.Target) {
					t.Errorf("cut at %d: %q is not whole", n, name)
				}
			}
		}
		if !errors.Is(err, pxar.ErrFormat) {
			t.Fatalf("cut at %d of %d: %v", n, len(a.meta), err)
		}
	}
}

func TestSizeThatIsALieIsAnError(t *testing.T) {
	for _, size := range []uint64{200 << 10, 1 << 40, 1<<62 - 1} {
		root := pxar.Metadata{Mode: pxar.ModeDirectory | 0o755}
		f := pxar.Metadata{Mode: pxar.ModeFile | 0o644}
		b := f.Append(pxar.AppendItem(root.Append(nil), pxar.TypeFilename, []byte("f\x00")))
		b = append(pxar.AppendHeader(b, pxar.TypePayload, size), "little"...)
		r, err := pxar.NewReader(bytes.NewReader(b), nil)
		if err != nil {
			t.Fatal(err)
		}
		target := t.TempDir()
		if _, err := extract.Directory(t.Context(), r, target, extract.Options{}); !errors.Is(err, pxar.ErrFormat) {
			t.Errorf("%d bytes: %v", size, err)
		}
		if list, err := os.ReadDir(target); err != nil || len(list) > 0 {
			t.Errorf("%d bytes: %v, %v", size, list, err)
		}
	}
}

// FuzzDirectory: whatever the bytes, extraction ends, and touches nothing but the
// target.
func FuzzDirectory(f *testing.F) {
	small := dir("", dir("d", file("a", "1"), symlink("l", "../x")), file("f", strings.Repeat("z", 40)), symlink("s", "d"))
	f.Add(encode(f, small, 1).meta, byte(0))
	f.Add(encode(f, dir("", symlink("x", "/etc"), dir("x", file("f", "evil"))), 1).meta, byte(1))
	all := []string{"new", "over what exists", "in place", "in place, exactly"}
	f.Fuzz(func(t *testing.T, b []byte, manner byte) {
		y := newYard(t)
		r, err := pxar.NewReader(bytes.NewReader(b), nil)
		if err != nil {
			return
		}
		o := manners[all[int(manner)%len(all)]]
		o.Skip = filemeta.SetOf(filemeta.Flags, filemeta.Mode) // so that the test can clean up
		_, err = extract.Directory(t.Context(), r, y.target, o)
		if errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		y.untouched(t)
		noParts(t, y.target)
	})
}
