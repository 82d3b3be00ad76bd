package extract_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/extract"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"golang.org/x/sys/unix"
)

// whole makes sure that every file that has its name has its content.
func whole(t testing.TB, tree *node, target string) {
	t.Helper()
	want := tree.expect()
	for name, f := range walkTree(t, target) {
		if w := want[name]; name != "/" && (w.Kind != f.Kind || w.Content != f.Content || w.Kind != pxar.Directory && w.Meta.Mtime != f.Meta.Mtime) {
			t.Errorf("%q is not whole", name)
		}
	}
}

// wide has n directories of n files.
func wide(n int, content string) *node {
	root := dir("")
	for i := range n {
		d := dir(fmt.Sprintf("d%03d", i))
		for j := range n {
			d.kids = append(d.kids, file(fmt.Sprintf("f%03d", j), fmt.Sprintf("%d-%d %s", i, j, content)))
		}
		root.kids = append(root.kids, d)
	}
	return root
}

func TestFullDiskEndsItAndLeavesNothingThatLooksWhole(t *testing.T) {
	for name, tree := range map[string]*node{
		"small files": wide(30, strings.Repeat("x", 3000)),
		"large files": dir("", file("a", strings.Repeat("a", 700<<10)), file("b", strings.Repeat("b", 700<<10))),
	} {
		t.Run(name, func(t *testing.T) {
			target := mounted(t, "tmpfs", "1M")
			a := encode(t, tree, 2)
			_, err := extract.Directory(t.Context(), a.reader(t), target, extract.Options{Problem: problem(t)})
			if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "extract /") {
				t.Errorf("%v", err)
			}
			whole(t, tree, target)
			noParts(t, target)
			// With more room it goes on in place.
			if err := unix.Mount("tmpfs", target, "tmpfs", unix.MS_REMOUNT, "size=20M"); err != nil {
				t.Fatal(err)
			}
			res, err := extract.Directory(t.Context(), a.reader(t), target, extract.Options{InPlace: true, Problem: problem(t)})
			if err != nil || !res.Complete() || res.Same.Files == 0 {
				t.Errorf("%v, %+v", err, res)
			}
			compare(t, tree, target)
		})
	}
}

// cancelling is a source that ends its context behind n calls.
type cancelling struct {
	extract.Source
	left   int
	cancel context.CancelCauseFunc
}

var errEnough = errors.New("enough")

func (c *cancelling) step() {
	if c.left--; c.left == 0 {
		c.cancel(errEnough)
	}
}

func (c *cancelling) Next() (*pxar.Entry, error) {
	c.step()
	return c.Source.Next()
}

func (c *cancelling) Read(p []byte) (int, error) {
	c.step()
	return c.Source.Read(p)
}

func TestCancelledExtractionEndsWithTheCause(t *testing.T) {
	tree := sample()
	tree.kids = append(tree.kids, wide(12, "x").kids...)
	tree.sorted()
	a := encode(t, tree, 2)
	for _, o := range []extract.Options{{}, {InPlace: true, Checksum: true, Delete: true}} {
		for n := 1; n < 300; n += 1 + n/8 {
			before := runtime.NumGoroutine()
			ctx, cancel := context.WithCancelCause(t.Context())
			target := t.TempDir()
			_, err := extract.Directory(ctx, &cancelling{a.reader(t), n, cancel}, target, o)
			if !errors.Is(err, errEnough) {
				t.Fatalf("behind %d calls: %v", n, err)
			}
			whole(t, tree, target)
			noParts(t, target)
			now := runtime.NumGoroutine()
			for tries := 0; now > before && tries < 1000; tries++ { // one that has said that it is done has yet to end
				time.Sleep(time.Millisecond)
				now = runtime.NumGoroutine()
			}
			if now > before {
				t.Errorf("%d goroutines, %d before", now, before)
			}
		}
	}
}

// broken is a source whose n-th read of content fails.
type broken struct {
	extract.Source
	left int
	err  error
}

func (b *broken) Read(p []byte) (int, error) {
	if b.left--; b.left == 0 {
		return 0, b.err
	}
	return b.Source.Read(p)
}

func TestFileThatCannotBeReadIsLeftOutOrEndsIt(t *testing.T) {
	tree := dir("", file("a", "1"), file("b", strings.Repeat("2", 600<<10)), file("c", "3"), file("d", "4"))
	a := encode(t, tree, 2)
	gone := errors.New("chunk missing")
	for n, lost := range map[int]string{1: "a", 2: "b", 4: "b", 5: "c"} {
		for _, inPlace := range []bool{false, true} {
			var told []string
			o := extract.Options{
				InPlace: inPlace, Checksum: inPlace,
				Damaged: func(err error) bool { return errors.Is(err, gone) },
				Problem: func(p extract.Problem) { told = append(told, p.Path) },
			}
			target := t.TempDir()
			src := &broken{a.walker(t, extract.Selection{}), n, gone}
			res, err := extract.Directory(t.Context(), src, target, o)
			if err != nil || res.Damaged.Files != 1 || res.Failed != res.Damaged || len(told) != 1 || told[0] != "/"+lost {
				t.Errorf("%d: %v, %+v, %q", n, err, res, told)
			}
			if _, err := os.Lstat(filepath.Join(target, lost)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%d: %s is there", n, lost)
			}
			if list, _ := os.ReadDir(target); len(list) != 3 {
				t.Errorf("%d: %v", n, list)
			}
			src = &broken{a.walker(t, extract.Selection{}), n, gone}
			o.Damaged = nil
			if _, err = extract.Directory(t.Context(), src, t.TempDir(), o); !errors.Is(err, gone) {
				t.Errorf("%d: %v", n, err)
			}
		}
	}
}

// The kernel counts what a process holds; nothing may stay open.
func TestDescriptorsAreGivenBack(t *testing.T) {
	open := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip(err)
		}
		return len(list)
	}
	a := encode(t, sample(), 2)
	before := open()
	target := t.TempDir()
	for _, o := range []extract.Options{{}, {}, {InPlace: true, Checksum: true, Delete: true}} {
		_, _ = extract.Directory(t.Context(), a.reader(t), target, o) // the second one fails
		_, _ = extract.Verify(t.Context(), a.reader(t), target, extract.VerifyOptions{})
		_, _ = extract.Directory(t.Context(), &broken{a.reader(t), 2, io.ErrClosedPipe}, t.TempDir(), o)
	}
	if now := open(); now != before {
		t.Errorf("%d descriptors, %d before", now, before)
	}
}
