package extract_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/extract"
	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"golang.org/x/sys/unix"
)

func TestWhatExistsStaysUnlessItsKindMayBeReplaced(t *testing.T) {
	first := file("0", "first")
	for _, tc := range []struct {
		name  string
		n     *node
		which extract.Existing
	}{
		{"directory", dir("x"), extract.Dirs},
		{"file", file("x", "new"), extract.Files},
		{"large file", file("x", string(make([]byte, 200<<10))), extract.Files},
		{"symbolic link", symlink("x", "new"), extract.Symlinks},
		{"hard link", hardlink("x", first, "0"), extract.Hardlinks},
		{"FIFO", &node{Entry: entry("x", pxar.FIFO, pxar.ModeFIFO|0o600)}, extract.Others},
	} {
		tree := dir("", first, tc.n)
		for exists, create := range map[string]func(path string) error{
			"file":          func(path string) error { return os.WriteFile(path, []byte("old"), 0o600) },
			"symbolic link": func(path string) error { return os.Symlink("old", path) },
			"directory":     func(path string) error { return os.Mkdir(path, 0o700) },
			"FIFO":          func(path string) error { return unix.Mkfifo(path, 0o600) },
		} {
			for _, o := range []extract.Options{{Existing: ^tc.which}, {Existing: tc.which}, extract.Options{Existing: ^tc.which}.Named(), extract.Options{Existing: tc.which}.Named()} {
				target := t.TempDir()
				path := filepath.Join(target, "x")
				if err := create(path); err != nil {
					t.Fatal(err)
				}
				var was, now unix.Stat_t
				if err := unix.Lstat(path, &was); err != nil {
					t.Fatal(err)
				}
				may := o.Existing == tc.which && (tc.which == extract.Dirs) == (exists == "directory")
				_, err := extract.Directory(t.Context(), encode(t, tree, 1).reader(t), target, o)
				if lerr := unix.Lstat(path, &now); lerr != nil {
					t.Fatal(lerr)
				}
				what := tc.name + " over " + exists
				switch {
				case may && err != nil:
					t.Errorf("%s: %v", what, err)
				case may:
					compare(t, tree, target)
				case !errors.Is(err, extract.ErrExists):
					t.Errorf("%s: %v", what, err)
				case now.Ino != was.Ino || now.Mtim != was.Mtim:
					t.Errorf("%s: it was changed", what)
				}
				noParts(t, target)
			}
		}
	}
}

// An archive that has a name more than once is no good one; the last counts.
func TestLastEntryOfANameCounts(t *testing.T) {
	for range 20 {
		// The large one takes another way than the small ones before it.
		last := strings.Repeat("3", 300<<10)
		tree := dir("", file("a", "1"), file("x", "1"), file("x", "2"), symlink("x", "y"), file("x", last))
		target := t.TempDir()
		if _, err := extract.Directory(t.Context(), encode(t, tree, 1).reader(t), target, extract.Options{Existing: extract.Anything, Workers: 4}); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(filepath.Join(target, "x")); string(b) != last {
			t.Fatalf("%.9q, %v", b, err)
		}
	}
}

func TestHardLinkToWhatIsNoFileIsNotMade(t *testing.T) {
	for name, other := range map[string]*node{"symbolic link": symlink("x", "f"), "directory": dir("x"), "nothing": file("y", "")} {
		f := file("f", "content")
		tree := dir("", f, other, hardlink("z", f, "x"))
		target := t.TempDir()
		res, err := extract.Directory(t.Context(), encode(t, tree, 1).reader(t), target, extract.Options{})
		if err != nil || res.Failed != (extract.Count{Hardlinks: 1}) {
			t.Errorf("%s: %v, %+v", name, err, res)
		}
		if _, err := os.Lstat(filepath.Join(target, "z")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNothingIsInheritedFromTheTarget(t *testing.T) {
	rootOnly(t)
	tree := dir("", dir("d", dir("e", file("f", "1"))), file("g", "2"), file("h", string(make([]byte, 300<<10))))
	for _, o := range []extract.Options{{}, extract.Options{}.Named()} {
		for _, within := range []string{"", "new"} {
			parent := t.TempDir()
			acl := unhexACL
			if err := errors.Join(unix.Setxattr(parent, "system.posix_acl_default", acl, 0), os.Chmod(parent, 0o2777)); err != nil {
				t.Skipf("no ACLs here: %v", err)
			}
			target := filepath.Join(parent, within)
			o.Problem = problem(t)
			if _, err := extract.Directory(t.Context(), encode(t, tree, 1).reader(t), target, o); err != nil {
				t.Fatal(err)
			}
			compare(t, tree, target)
		}
	}
}

// unhexACL grants everything to user 7: u::rwx,u:7:rwx,g::rwx,m::rwx,o::rwx.
var unhexACL = []byte{
	2, 0, 0, 0,
	1, 0, 7, 0, 255, 255, 255, 255,
	2, 0, 7, 0, 7, 0, 0, 0,
	4, 0, 7, 0, 255, 255, 255, 255,
	16, 0, 7, 0, 255, 255, 255, 255,
	32, 0, 7, 0, 255, 255, 255, 255,
}

// While the target is filled, nobody else can get in; a mask for new files hides
// nothing of what the archive says.
func TestUmaskDoesNotCount(t *testing.T) {
	tree := sample()
	tree.kids[0].Mode |= 0o022
	for _, umask := range []int{0, 0o077} {
		old := unix.Umask(umask)
		target := extracted(t, tree)
		unix.Umask(old)
		compare(t, tree, target)
	}
}

func TestIgnoredModesAreThoseOfNewFiles(t *testing.T) {
	f, d := file("f", "x"), dir("d")
	f.Mode, d.Mode = pxar.ModeFile|0o4711, pxar.ModeDirectory|0o1777
	old := unix.Umask(0o027)
	defer unix.Umask(old)
	target := filepath.Join(t.TempDir(), "target")
	o := extract.Options{Skip: filemeta.SetOf(filemeta.Mode), Problem: problem(t)}
	if _, err := extract.Directory(t.Context(), encode(t, dir("", d, f), 1).reader(t), target, o); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{"": 0o750, "d": 0o750, "f": 0o640} {
		if info, err := os.Stat(filepath.Join(target, name)); err != nil || info.Mode().Perm() != want || info.Mode()&os.ModeSetuid != 0 {
			t.Errorf("%q: %v, %v", name, info.Mode(), err)
		}
	}
}

// Somebody who may write to the target swaps a directory for a link, again and
// again, at the worst moments.
func TestDirectoryThatIsSwappedForALinkIsNotFollowed(t *testing.T) {
	for name, tc := range map[string]struct {
		tree *node
		o    extract.Options
	}{
		"entered":  {dir("", dir("x", file("f", "evil"))), extract.Options{Existing: extract.Dirs | extract.Anything}},
		"in place": {dir("", dir("x", file("f", "evil"))), extract.Options{InPlace: true, Delete: true}},
		"deleted":  {dir(""), extract.Options{InPlace: true, Delete: true}},
	} {
		t.Run(name, func(t *testing.T) {
			y := newYard(t)
			a := encode(t, tc.tree, 1)
			x, link := filepath.Join(y.target, "x"), filepath.Join(filepath.Dir(y.target), "link")
			stop := make(chan struct{})
			var swapping sync.WaitGroup
			swapping.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						_ = unix.Renameat2(unix.AT_FDCWD, x, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE)
					}
				}
			})
			for range 1500 {
				if _, err := os.Lstat(x); err != nil {
					_ = os.Mkdir(x, 0o755)
				}
				if _, err := os.Lstat(link); err != nil {
					_ = os.Symlink(y.outside, link)
				}
				// It may fail or not. What counts is where it went.
				_, _ = extract.Directory(t.Context(), a.reader(t), y.target, tc.o)
			}
			close(stop)
			swapping.Wait()
			y.untouched(t)
		})
	}
}

// peeking is a source that looks at the target before each step.
type peeking struct {
	extract.Source
	look func(path []string)
}

func (p *peeking) Next() (*pxar.Entry, error) {
	p.look(p.Source.Path())
	return p.Source.Next()
}

func TestDirectoriesArePrivateUntilAllInThemIsDone(t *testing.T) {
	tree := dir("", dir("a", dir("b", file("f", "x"), file("g", "y")), file("h", "z")))
	target := filepath.Join(t.TempDir(), "target")
	seen := 0
	src := &peeking{encode(t, tree, 1).reader(t), func(path []string) {
		if len(path) == 0 || path[len(path)-1] == "b" {
			return // it may be done
		}
		for i := range path { // all but the last are directories
			if info, err := os.Stat(filepath.Join(target, filepath.Join(path[:i]...))); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("above %q: %v, %v", path, info, err)
			}
			seen++
		}
	}}
	if _, err := extract.Directory(t.Context(), src, target, extract.Options{Problem: problem(t)}); err != nil || seen < 6 {
		t.Errorf("%v, %d looks", err, seen)
	}
	compare(t, tree, target)
}

// A process that is killed leaves whole files, and no others under their names.
func TestKilledExtractionLeavesOnlyWholeFiles(t *testing.T) {
	const env = "HOLDFAST_TEST_KILLED"
	tree := wide(40, string(make([]byte, 2000))+"x")
	if target := os.Getenv(env); target != "" {
		_, err := extract.Directory(t.Context(), encode(t, tree, 1).reader(t), target, extract.Options{})
		t.Log(err)
		return
	}
	for round := range 5 {
		target := filepath.Join(t.TempDir(), "target")
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1")
		cmd.Env = append(os.Environ(), env+"="+target)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for { // until some are there
			if list, _ := filepath.Glob(filepath.Join(target, "d0*", "f*")); len(list) > 50*round {
				break
			}
			if cmd.ProcessState != nil {
				break
			}
		}
		_ = cmd.Process.Kill() // it may be done
		_ = cmd.Wait()
		whole(t, tree, target)
		noParts(t, target)
	}
}

func TestLinkThatWasADirectoryIsNotEmptied(t *testing.T) {
	y := newYard(t)
	if err := os.Symlink(y.outside, filepath.Join(y.target, "x")); err != nil {
		t.Fatal(err)
	}
	if err := extract.RemoveTree(y.target, "x"); !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ELOOP) {
		t.Errorf("%v", err)
	}
	y.untouched(t)
}
