package ext_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/ext"
	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
)

// small makes a small file system of a directory's content.
func small(t testing.TB, dir string, options ...string) string {
	t.Helper()
	mkfs := append([]string{"mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-N", "512", "-d", dir}, options...)
	return fsreadtest.Make(t, 4*mib, mkfs...)
}

// someFiles is a directory with a few files.
func someFiles(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range map[string]string{"short": "a few bytes", "File": strings.Repeat("more ", 3000), "Straße": "x", "d/in": "inside"} {
		name = filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(data), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("short", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// edit changes an image with a script of debugfs and opens it.
func edit(t *testing.T, img, script string) *ext.FS {
	t.Helper()
	debug(t, img, script)
	f, err := ext.Open(fsreadtest.OpenFile(t, img))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func unsupported(err error, what string) bool {
	u, ok := errors.AsType[*fsread.UnsupportedError](err)
	return ok && strings.Contains(u.What, what)
}

func TestWhatIsNotUnderstoodIsRefusedByName(t *testing.T) {
	whole, err := os.ReadFile(small(t, someFiles(t), "-O", "^metadata_csum"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		what  string
		at    int // in the superblock
		value byte
	}{
		{"feature compression", 0x60, 1},
		{"journal device", 0x60, 8},
		{"feature dirdata", 0x61, 0x10},
		{"unknown feature (incompat 0x40000000)", 0x63, 0x40},
		{"GNU Hurd", 0x48, 1},
		{"Masix", 0x48, 2},
		{"revision 7", 0x4c, 7},
	} {
		b := bytes.Clone(whole)
		b[1024+tc.at] |= tc.value
		if tc.at == 0x4c {
			b[1024+tc.at] = tc.value
		}
		if _, err := ext.Open(mem{bytes.NewReader(b)}); !unsupported(err, tc.what) {
			t.Errorf("%s: err = %v", tc.what, err)
		}
	}
}

func TestSomethingElseIsNoFileSystem(t *testing.T) {
	for _, size := range []int{0, 1, 2047, 2048, 1 << 20} {
		if _, err := ext.Open(mem{bytes.NewReader(make([]byte, size))}); !errors.Is(err, fsread.ErrOther) {
			t.Errorf("%d zeros: %v", size, err)
		}
	}
}

func TestImageThatIsTooShortIsDamaged(t *testing.T) {
	whole, err := os.ReadFile(small(t, someFiles(t)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ext.Open(mem{bytes.NewReader(whole[:3*mib])}); !fsread.IsCorrupt(err) {
		t.Errorf("err = %v", err)
	}
}

func TestEncryptedAndVerityFilesAreRefusedOneByOne(t *testing.T) {
	const encrypted, verity, extents = 0x800, 0x100000, 0x80000
	f := edit(t, small(t, someFiles(t)), fmt.Sprintf(
		"sif File flags %d\nsif short flags %d\nsif d flags %d\nsif link flags %d\n", encrypted|extents, verity|extents, encrypted|extents, encrypted))
	for name, what := range map[string]string{"File": "encrypted", "short": "verity"} {
		e, err := f.Lookup(f.Root(), name)
		if err != nil {
			t.Fatal(err)
		}
		if st, err := f.Stat(e.ID); err != nil || st.Size == 0 {
			t.Errorf("%s: %+v, %v", name, st, err)
		}
		if _, err := f.Open(e.ID); !unsupported(err, what) {
			t.Errorf("%s: %v", name, err)
		}
	}
	d, err := f.Lookup(f.Root(), "d")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.ReadDir(d.ID, func(fsread.Entry) error { return nil }); !unsupported(err, "encrypted") {
		t.Errorf("encrypted directory: %v", err)
	}
	if _, err := f.Lookup(d.ID, "in"); !unsupported(err, "encrypted") {
		t.Errorf("encrypted directory: %v", err)
	}
	l, err := f.Lookup(f.Root(), "link")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Readlink(l.ID); !unsupported(err, "encrypted") {
		t.Errorf("encrypted link: %v", err)
	}
	if got := content(t, f, "Straße"); string(got) != "x" {
		t.Errorf("their neighbour: %q", got)
	}
}

func TestDirectoriesThatIgnoreCaseFindNamesInAnyCase(t *testing.T) {
	const casefold, extents = 0x40000000, 0x80000
	f := edit(t, small(t, someFiles(t), "-O", "casefold"), fmt.Sprintf("sif / flags %d\n", casefold|extents))
	for _, name := range []string{"SHORT", "short", "FILE", "STRASSE", "straße", "stra\u00adße"} {
		if e, err := f.Lookup(f.Root(), name); err != nil || !strings.Contains("short File Straße", e.Name) {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
	}
	d, err := f.Lookup(f.Root(), "D")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Lookup(d.ID, "IN"); !errors.Is(err, fsread.ErrNotExist) {
		t.Errorf("a directory that does not ignore case: %v", err)
	}
	if _, err := f.Lookup(f.Root(), "strase"); !errors.Is(err, fsread.ErrNotExist) {
		t.Errorf("another name: %v", err)
	}
}

func TestFilesOfTheWrongKindAreRefused(t *testing.T) {
	f := edit(t, small(t, someFiles(t)), "")
	file, err := f.Lookup(f.Root(), "short")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Lookup(file.ID, "x"); !errors.Is(err, fsread.ErrNotDir) {
		t.Error(err)
	}
	if _, err := f.Readlink(file.ID); !errors.Is(err, fsread.ErrNotSymlink) {
		t.Error(err)
	}
	if _, err := f.Open(f.Root()); !errors.Is(err, fsread.ErrNotRegular) {
		t.Error(err)
	}
	for _, id := range []fsread.ID{{}, {Number: 8}, {Number: 1 << 40}, {Number: 500}, {Tree: 1, Number: 2}, {Number: 1 << 20}} {
		if _, err := f.Stat(id); !fsread.IsCorrupt(err) {
			t.Errorf("%v: %v", id, err)
		}
	}
	for _, name := range []string{"", ".", "..", "a/b", "a\x00"} {
		if _, err := f.Lookup(f.Root(), name); !errors.Is(err, fsread.ErrNotExist) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// Blocks as large as the kernel of most machines cannot mount them: what mke2fs
// copied is what it should be.
func TestLargeBlocksReadAsTheyWereWritten(t *testing.T) {
	dir := t.TempDir()
	fsreadtest.Tree(t, dir, "--big", "1", "--most", "2000000")
	t.Cleanup(func() { fsreadtest.Run(t, "python3", "-I", fsreadtest.Script(t, "mktree.py"), "--release", dir) })
	for _, size := range []string{"8192", "16384", "32768", "65536"} {
		t.Run(size, func(t *testing.T) {
			img := fsreadtest.Make(t, 400*mib, "mke2fs", "-q", "-F", "-t", "ext4", "-b", size, "-N", "4096", "-d", dir)
			f, err := ext.Open(fsreadtest.OpenFile(t, img))
			if err != nil {
				t.Fatal(err)
			}
			// mke2fs keeps no parts of seconds, and not the mode of the root.
			fsreadtest.Compare(t, f, dir, []string{"mtime"}, []string{"lost+found"})
		})
	}
}
