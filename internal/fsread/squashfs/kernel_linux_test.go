package squashfs_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
	"github.com/holdfast-backup/holdfast/internal/fsread/squashfs"
	"github.com/holdfast-backup/holdfast/internal/image"
	"golang.org/x/sys/unix"
)

// pack makes an image of a directory.
func pack(t testing.TB, dir string, options ...string) string {
	t.Helper()
	img := filepath.Join(t.TempDir(), "img")
	fsreadtest.Run(t, "mksquashfs", append([]string{dir, img, "-quiet", "-no-progress", "-noappend", "-processors", "2"}, options...)...)
	return img
}

func open(t testing.TB, img string) *squashfs.FS {
	t.Helper()
	f, err := squashfs.Open(fsreadtest.OpenFile(t, img))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestEveryVariantReadsAsTheKernelReadsIt(t *testing.T) {
	fsreadtest.Root(t)
	dir := t.TempDir()
	tree(t, dir, "--big", "0", "--most", "300000")
	extra(t, filepath.Join(dir, "extra"))
	for name, options := range map[string][]string{
		"gzip, small window":          {"-comp", "gzip", "-Xwindow-size", "9", "-Xcompression-level", "3", "-b", "1M"},
		"LZO":                         {"-comp", "lzo"},
		"XZ with filters":             {"-comp", "xz", "-Xbcj", "x86", "-Xdict-size", "50%", "-b", "256K"},
		"zstd":                        {"-comp", "zstd", "-Xcompression-level", "3"},
		"nothing compressed":          {"-noI", "-noD", "-noF", "-noX", "-b", "4K"},
		"LZ4, no fragments":           {"-comp", "lz4", "-no-fragments"},
		"LZ4, all tails in fragments": {"-comp", "lz4", "-Xhc", "-always-use-fragments", "-b", "16K"},
		"no attributes, no export":    {"-comp", "lz4", "-no-xattrs", "-no-exports", "-no-duplicates", "-no-sparse", "-b", "64K"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			img := pack(t, dir, options...)
			f := open(t, img)
			mounted, unmount := fsreadtest.Mount(t, img, "ro")
			defer unmount()
			fsreadtest.Compare(t, f, mounted, nil, nil)
			if name == "zstd" {
				everyNameIsFound(t, f, f.Root())
			}
		})
	}
}

// Linux does not know this one; unsquashfs does.
func TestLZMAReadsAsUnsquashfsReadsIt(t *testing.T) {
	fsreadtest.Root(t)
	dir, out := t.TempDir(), filepath.Join(t.TempDir(), "out")
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"program": program[:300_000], "text": bytes.Repeat([]byte("what compresses well; "), 9000), "short": []byte("x"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	img := pack(t, dir, "-comp", "lzma")
	fsreadtest.Run(t, "unsquashfs", "-q", "-n", "-d", out, img)
	fsreadtest.Compare(t, open(t, img), out, nil, nil)
}

// tree makes one that can be removed again.
func tree(t *testing.T, dir string, args ...string) {
	t.Helper()
	t.Cleanup(func() { fsreadtest.Tree(t, dir, "--release") })
	fsreadtest.Tree(t, dir, args...)
}

// extra makes what compresses, programs, holes, long directories and attributes.
func extra(t *testing.T, dir string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(dir+"/many", 0o755))
	for i := range 3000 {
		must(os.WriteFile(fmt.Sprintf("%s/many/%s%d", dir, strings.Repeat("name ", i%40), i), []byte(strings.Repeat("x", i%7)), 0o600))
	}
	program, err := os.ReadFile("/proc/self/exe")
	must(err)
	must(os.WriteFile(dir+"/program", program[:min(len(program), 1<<20)], 0o755))
	must(os.WriteFile(dir+"/text", bytes.Repeat([]byte("what compresses well; "), 50_000), 0o644))
	f, err := os.Create(dir + "/holes")
	must(err)
	for _, at := range []int64{0, 5 << 20, 5<<20 + 200_000, 60 << 20} {
		_, err := f.WriteAt([]byte("some bytes"), at)
		must(err)
	}
	must(f.Truncate(90 << 20))
	must(f.Close())
	must(os.WriteFile(dir+"/attributes", nil, 0o644))
	must(os.WriteFile(dir+"/the same", nil, 0o644))
	for i := range 20 {
		v := []byte(strings.Repeat("v", i*7))
		must(unix.Setxattr(dir+"/attributes", fmt.Sprintf("user.%d", i), v, 0))
		must(unix.Setxattr(dir+"/the same", fmt.Sprintf("user.%d", i), v, 0)) // values of others
		must(unix.Lsetxattr(dir, fmt.Sprintf("trusted.%d", i), v, 0))
	}
	must(os.Symlink(strings.Repeat("t", 4000), dir+"/link"))
}

// everyNameIsFound looks up what directories list.
func everyNameIsFound(t *testing.T, f fsread.FS, dir fsread.ID) {
	t.Helper()
	err := f.ReadDir(dir, func(e fsread.Entry) error {
		if got, err := f.Lookup(dir, e.Name); err != nil || got != e {
			t.Errorf("%q: %+v, %v, want %+v", e.Name, got, err, e)
		}
		if _, err := f.Lookup(dir, e.Name+"\x01"); err != fsread.ErrNotExist {
			t.Errorf("%q with a further byte: %v", e.Name, err)
		}
		if e.Kind == fsread.Directory {
			everyNameIsFound(t, f, e.ID)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestHolesAreKnownAndWhatIsBetweenIsRead(t *testing.T) {
	dir := t.TempDir()
	extra(t, filepath.Join(dir, "x"))
	want, err := os.ReadFile(filepath.Join(dir, "x", "holes"))
	if err != nil {
		t.Fatal(err)
	}
	f := open(t, pack(t, filepath.Join(dir, "x"), "-comp", "lz4", "-b", "16K"))
	e, err := f.Lookup(f.Root(), "holes")
	if err != nil {
		t.Fatal(err)
	}
	img, err := f.Open(e.ID)
	if err != nil {
		t.Fatal(err)
	}
	data := int64(0)
	for x := (image.Extent{}); x.End() < img.Size(); {
		if x, err = image.ExtentAt(img, x.End()); err != nil {
			t.Fatal(err)
		}
		part := want[x.Offset:x.End()]
		if x.Kind == image.Zero && len(bytes.Trim(part, "\x00")) > 0 {
			t.Errorf("%+v is no hole", x)
		}
		if x.Kind == image.Data {
			data += x.Length
		}
	}
	if data == 0 || data > 5*16<<10 {
		t.Errorf("%d bytes of data", data)
	}
	// From the end to the start, so that blocks are sought for.
	got := make([]byte, 100_000)
	for end := img.Size(); end > 0; end -= int64(len(got)) {
		part := got[:min(end, int64(len(got)))]
		if n, err := img.ReadAt(part, end-int64(len(part))); n != len(part) || !bytes.Equal(part, want[end-int64(len(part)):end]) {
			t.Fatalf("other bytes before %d: %d, %v", end, n, err)
		}
	}
}

func TestFileIsReadFromItsShortLastBlockOn(t *testing.T) {
	dir := t.TempDir()
	want := make([]byte, 10_000)
	for i := range want {
		want[i] = byte(i / 100)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), want, 0o600); err != nil {
		t.Fatal(err)
	}
	f := open(t, pack(t, dir, "-comp", "gzip", "-no-fragments", "-b", "4K"))
	e, err := f.Lookup(f.Root(), "file")
	if err != nil {
		t.Fatal(err)
	}
	img, err := f.Open(e.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range []int{9000, 9500, 0, 4000} {
		got := make([]byte, min(3000, len(want)-off))
		if n, err := img.ReadAt(got, int64(off)); n != len(got) || !bytes.Equal(got, want[off:off+n]) {
			t.Errorf("other bytes at %d: %d, %v", off, n, err)
		}
	}
}
