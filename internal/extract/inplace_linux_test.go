package extract_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/extract"
	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"golang.org/x/sys/unix"
)

// extracted is a fresh directory with a tree in it.
func extracted(t testing.TB, tree *node) string {
	t.Helper()
	target := filepath.Join(t.TempDir(), "target")
	if _, err := extract.Directory(t.Context(), encode(t, tree, 1).reader(t), target, extract.Options{Problem: problem(t)}); err != nil {
		t.Fatal(err)
	}
	return target
}

// inodes are those of all that is below root.
func inodes(t testing.TB, root string) map[string]unix.Stat_t {
	t.Helper()
	return (&yard{outside: root}).look(t)
}

func TestTargetThatIsTheArchiveIsNotTouched(t *testing.T) {
	tree := sample()
	target := extracted(t, tree)
	was := inodes(t, target)
	for _, checksum := range []bool{false, true} {
		o := extract.Options{InPlace: true, Delete: true, Checksum: checksum, Problem: problem(t)}
		for version := 1; version <= 2; version++ {
			res, err := extract.Directory(t.Context(), encode(t, tree, version).reader(t), target, o)
			if err != nil || !res.Complete() || res.Same != res.Asked || res.Changed != (extract.Count{}) || res.Deleted != 0 {
				t.Errorf("%v, %+v", err, res)
			}
		}
	}
	for path, st := range inodes(t, target) {
		if before := was[path]; before.Ino != st.Ino || before.Ctim != st.Ctim {
			t.Errorf("%s was touched", path)
		}
	}
}

func TestInPlaceOnlyWhatDiffersIsTouched(t *testing.T) {
	tree := sample()
	target := extracted(t, tree)
	was := inodes(t, target)
	in := func(name string) string { return filepath.Join(target, name) }
	for what, err := range map[string]error{
		"other content, other size": os.WriteFile(in("empty"), []byte("not"), 0o644),
		"other mode":                os.Chmod(in("big"), 0o600),
		"other time":                os.Chtimes(in("sparse"), time.Unix(1, 2), time.Unix(1, 2)),
		"other link":                errors.Join(os.Remove(in("dangling")), os.Symlink("elsewhere", in("dangling"))),
		"link that is a directory":  errors.Join(os.Remove(in("dir/link")), os.Mkdir(in("dir/link"), 0o755)),
		"directory that is a file":  errors.Join(os.Remove(in("dir/empty")), os.WriteFile(in("dir/empty"), nil, 0o644)),
		"FIFO that is a file":       errors.Join(os.Remove(in("dir/fifo")), os.WriteFile(in("dir/fifo"), nil, 0o644)),
		"hard link that is a copy":  errors.Join(os.Remove(in("far")), os.WriteFile(in("far"), []byte("hello\n"), 0o644)),
		"something more":            os.WriteFile(in("dir/more"), nil, 0o644),
		"a tree more":               os.MkdirAll(in("dir/tree/in/it"), 0o755),
	} {
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	res, err := extract.Directory(t.Context(), encode(t, tree, 2).reader(t), target, extract.Options{InPlace: true, Problem: problem(t)})
	if err != nil || !res.Complete() {
		t.Fatalf("%v, %+v", err, res)
	}
	if want := (extract.Count{Files: 2, Dirs: 1, Symlinks: 2, Hardlinks: 1, FIFOs: 1, Bytes: 5000 + 1<<20 + 1 + 99_999}); res.Made != want {
		t.Errorf("made %+v, want %+v", res.Made, want)
	}
	if res.Changed.Files != 1 {
		t.Errorf("changed %+v", res.Changed)
	}
	if _, err := os.Lstat(in("dir/more")); err != nil {
		t.Errorf("without Delete: %v", err)
	}
	res, err = extract.Directory(t.Context(), encode(t, tree, 2).reader(t), target, extract.Options{InPlace: true, Delete: true, Problem: problem(t)})
	if err != nil || !res.Complete() || res.Deleted < 3 || res.Made != (extract.Count{}) {
		t.Errorf("%v, %+v", err, res)
	}
	compare(t, tree, target)
	now := inodes(t, target)
	for _, same := range []string{"big", "dir/a", "dir/b", "dir/locked/in", "dir/socket"} {
		if was[in(same)].Ino != now[in(same)].Ino {
			t.Errorf("%s was made anew", same)
		}
	}
	for _, other := range []string{"empty", "sparse"} {
		if was[in(other)].Ino == now[in(other)].Ino {
			t.Errorf("%s was written to: who reads it sees a mixture", other)
		}
	}
}

func TestChecksumFindsContentThatLooksTheSame(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 50<<10)
	f, b := file("f", "right"), file("big", big)
	tree := dir("", b, f)
	target := extracted(t, tree)
	spoil := func(name string, off int64) {
		t.Helper()
		path := filepath.Join(target, name)
		w, err := os.OpenFile(path, os.O_RDWR, 0)
		if err == nil {
			_, err = w.WriteAt([]byte("X"), off)
		}
		if err = errors.Join(err, w.Close(), os.Chtimes(path, time.Time{}, b.Mtime.Time())); err != nil {
			t.Fatal(err)
		}
	}
	for _, off := range []int64{0, 300 << 10, int64(len(big)) - 1} {
		spoil("f", 2)
		spoil("big", off)
		o := extract.Options{InPlace: true, Problem: problem(t)}
		res, err := extract.Directory(t.Context(), encode(t, tree, 2).reader(t), target, o)
		if err != nil || res.Same.Files != 2 {
			t.Errorf("without Checksum: %v, %+v", err, res)
		}
		o.Checksum = true
		res, err = extract.Directory(t.Context(), encode(t, tree, 2).reader(t), target, o)
		if err != nil || !res.Complete() || res.Made.Files != 2 {
			t.Errorf("%v, %+v", err, res)
		}
		compare(t, tree, target)
	}
}

// A file whose other names may be anywhere is not changed under them.
func TestInPlaceFileWithOtherNamesIsReplaced(t *testing.T) {
	tree := dir("", file("f", "content"))
	target := extracted(t, tree)
	copied := filepath.Join(t.TempDir(), "snapshot")
	if err := os.Link(filepath.Join(target, "f"), copied); err != nil {
		t.Fatal(err)
	}
	tree.kids[0].Mode = pxar.ModeFile | 0o600
	res, err := extract.Directory(t.Context(), encode(t, tree, 2).reader(t), target, extract.Options{InPlace: true, Problem: problem(t)})
	if err != nil || res.Made.Files != 1 {
		t.Fatalf("%v, %+v", err, res)
	}
	compare(t, tree, target)
	if info, err := os.Stat(copied); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("the other name: %v, %v", info.Mode(), err)
	}
}

func TestDirectoryInTheWayStaysWithoutDelete(t *testing.T) {
	tree := dir("", file("f", "content"), symlink("l", "f"))
	target := t.TempDir()
	for _, d := range []string{"f/full", "l/full"} {
		if err := os.MkdirAll(filepath.Join(target, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	told := 0
	o := extract.Options{InPlace: true, Problem: func(p extract.Problem) { told++ }}
	res, err := extract.Directory(t.Context(), encode(t, tree, 1).reader(t), target, o)
	if err != nil || res.Complete() || res.Failed.Files != 1 || res.Failed.Symlinks != 1 || told != 2 {
		t.Errorf("%v, %+v", err, res)
	}
	noParts(t, target)
	o.Delete = true
	if res, err = extract.Directory(t.Context(), encode(t, tree, 1).reader(t), target, o); err != nil || !res.Complete() {
		t.Errorf("%v, %+v", err, res)
	}
	compare(t, tree, target)
}

func TestNothingMountedIsDeleted(t *testing.T) {
	rootOnly(t)
	target := t.TempDir()
	mounted := t.TempDir()
	if err := os.WriteFile(filepath.Join(mounted, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// In a directory that the archive has, in one that it has not, and below that;
	// all on one file system, so that numbers of devices show nothing.
	for _, at := range []string{"kept", "extra", "more/below"} {
		path := filepath.Join(target, at)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(mounted, path, "", unix.MS_BIND, ""); err != nil {
			t.Skipf("nothing can be mounted here: %v", err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(path, 0); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		})
	}
	tree := dir("", dir("kept"))
	res, err := extract.Directory(t.Context(), encode(t, tree, 1).reader(t), target, extract.Options{InPlace: true, Delete: true, Skip: filemeta.SetOf(filemeta.Mtime)})
	if err != nil || res.Left != 3 || res.Complete() {
		t.Errorf("%v, %+v", err, res)
	}
	if _, err := os.Stat(filepath.Join(mounted, "precious")); err != nil {
		t.Errorf("%v", err)
	}
}

func TestImmutableFilesAreMadeLinkedAndReplaced(t *testing.T) {
	rootOnly(t)
	first := file("a", "content")
	first.Flags = pxar.FlagImmutable
	tree := dir("", first, hardlink("b", first, "a"))
	target := filepath.Join(t.TempDir(), "target")
	thaw := func() {
		for _, name := range []string{"a", "b"} {
			if fd, err := unix.Open(filepath.Join(target, name), unix.O_RDONLY, 0); err == nil {
				_ = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, 0)
				unix.Close(fd)
			}
		}
	}
	t.Cleanup(thaw)
	res, err := extract.Directory(t.Context(), encode(t, tree, 1).reader(t), target, extract.Options{Problem: problem(t)})
	if err != nil {
		t.Fatal(err)
	}
	if res.NotSet[filemeta.Flags].Count > 0 {
		t.Skipf("no such attribute here: %v", res.NotSet[filemeta.Flags].Err)
	}
	compare(t, tree, target)
	first.Mode = pxar.ModeFile | 0o600
	first.content = []byte("other content")
	res, err = extract.Directory(t.Context(), encode(t, tree, 1).reader(t), target, extract.Options{InPlace: true, Problem: problem(t)})
	if err != nil || !res.Complete() {
		t.Fatalf("%v, %+v", err, res)
	}
	compare(t, tree, target)
}

func TestImmutableDirectoryIsFilledAndImmutableAgain(t *testing.T) {
	rootOnly(t)
	d := dir("d", file("f", "1"))
	d.Flags = pxar.FlagImmutable
	tree := dir("", d)
	target := filepath.Join(t.TempDir(), "target")
	t.Cleanup(func() {
		if fd, err := unix.Open(filepath.Join(target, "d"), unix.O_RDONLY, 0); err == nil {
			_ = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, 0)
			unix.Close(fd)
		}
	})
	for round := range 3 {
		res, err := extract.Directory(t.Context(), encode(t, tree, 1).reader(t), target, extract.Options{InPlace: true, Delete: true, Problem: problem(t)})
		if err != nil {
			t.Fatal(err)
		}
		if res.NotSet[filemeta.Flags].Count > 0 {
			t.Skipf("no such attribute here: %v", res.NotSet[filemeta.Flags].Err)
		}
		compare(t, tree, target)
		if round == 2 && res.Changed != (extract.Count{}) {
			t.Errorf("touched: %+v", res)
		}
		if round == 0 {
			d.kids = append(d.kids, file("g", "2"))
		}
	}
}
