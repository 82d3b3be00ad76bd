package extract_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/extract"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// sample is a tree with something of everything that any user can make.
func sample() *node {
	first := file("a", "hello\n")
	fifo := &node{Entry: entry("fifo", pxar.FIFO, pxar.ModeFIFO|0o620)}
	socket := &node{Entry: entry("socket", pxar.Socket, pxar.ModeSocket|0o600)}
	locked := dir("locked", file("in", "x"))
	locked.Mode = pxar.ModeDirectory | 0o500
	return dir("",
		dir("dir", first, hardlink("b", first, "dir/a"), dir("empty"), fifo, symlink("link", "../big"), locked, socket),
		file("big", strings.Repeat("0123456789abcdef", 40<<10)),
		file("empty", ""),
		hardlink("far", first, "dir/a"),
		file("sparse", strings.Repeat("x", 5000)+strings.Repeat("\x00", 1<<20)+"y"+strings.Repeat("\x00", 99_999)),
		symlink("dangling", "/nowhere/\xff"),
		file("name \xff\n", "bytes"),
	).sorted()
}

func TestArchiveBecomesADirectory(t *testing.T) {
	for version := 1; version <= 2; version++ {
		tree := sample()
		a := encode(t, tree, version)
		for name, src := range map[string]extract.Source{"in a row": a.reader(t), "at random": a.walker(t, extract.Selection{})} {
			target := filepath.Join(t.TempDir(), "new", "target")
			res, err := extract.Directory(t.Context(), src, target, extract.Options{Problem: problem(t)})
			if err != nil {
				t.Fatalf("version %d, %s: %v", version, name, err)
			}
			if !res.Complete() || res.Made != res.Asked || res.Made.Entries() != 16 {
				t.Errorf("%+v", res)
			}
			compare(t, tree, target)
		}
	}
}

func TestDeviceNumbersThatTheKernelLacksAreNotMadeToOthers(t *testing.T) {
	rootOnly(t)
	tree := dir("", &node{Entry: device("major", pxar.CharDevice, pxar.ModeCharDevice|0o600, 1<<12, 3)}, &node{Entry: device("minor", pxar.BlockDevice, pxar.ModeBlockDevice|0o600, 7, 1<<20)},
		&node{Entry: device("most", pxar.CharDevice, pxar.ModeCharDevice|0o600, 1<<12-1, 1<<20-1)})
	target := t.TempDir()
	res, err := extract.Directory(t.Context(), encode(t, tree, 1).reader(t), target, extract.Options{Existing: extract.Dirs})
	if err != nil {
		t.Fatal(err)
	}
	if res.Failed.Devices != 2 || res.Made.Devices != 1 {
		t.Errorf("%+v", res)
	}
	for name, want := range map[string]bool{"major": false, "minor": false, "most": true} {
		if _, err := os.Lstat(filepath.Join(target, name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// problem makes every problem an error.
func problem(t testing.TB) func(extract.Problem) {
	return func(p extract.Problem) { t.Errorf("problem: %s", p) }
}
