package image_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/image"
)

func random(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

func writeFile(t testing.TB, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func openFile(t testing.TB, path string, opts image.FileOptions) *image.File {
	t.Helper()
	img, err := image.OpenFile(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = img.Close() })
	return img
}

func TestReadAtIsShortOnlyAtTheEnd(t *testing.T) {
	content := random(10_000)
	file := openFile(t, writeFile(t, content), image.FileOptions{Sequential: true})
	section, err := image.NewSection(file, 0, file.Size())
	if err != nil {
		t.Fatal(err)
	}
	bad, err := image.NewBadSectors(file, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	for name, img := range map[string]image.Image{"file": file, "section": section, "bad sectors": bad} {
		t.Run(name, func(t *testing.T) {
			for _, tc := range []struct {
				off int64
				len int
				n   int
				err error
			}{
				{0, 10_000, 10_000, nil},
				{9_999, 1, 1, nil},
				{9_999, 2, 1, io.EOF},
				{0, 20_000, 10_000, io.EOF},
				{10_000, 1, 0, io.EOF},
				{12_000, 1, 0, io.EOF},
				{5, 0, 0, nil},
			} {
				p := make([]byte, tc.len)
				n, err := img.ReadAt(p, tc.off)
				if n != tc.n || err != tc.err { //nolint:errorlint // the contract is io.EOF itself
					t.Errorf("ReadAt(%d bytes at %d) = %d, %v; want %d, %v", tc.len, tc.off, n, err, tc.n, tc.err)
				}
				if n > 0 && !bytes.Equal(p[:n], content[tc.off:tc.off+int64(n)]) {
					t.Errorf("ReadAt(%d bytes at %d): wrong bytes", tc.len, tc.off)
				}
			}
			if _, err := img.ReadAt(make([]byte, 1), -1); err == nil {
				t.Error("a negative offset is read")
			}
		})
	}
}

func TestHolesAreZeroExtents(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("holes are only looked for on Linux")
	}
	path := writeFile(t, nil)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	const mib = 1 << 20
	if err := f.Truncate(10 * mib); err != nil {
		t.Fatal(err)
	}
	for _, off := range []int64{2 * mib, 5 * mib} {
		if _, err := f.WriteAt(random(mib), off); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}

	img := openFile(t, path, image.FileOptions{})
	want := []image.Extent{
		{Offset: 0, Length: 2 * mib, Kind: image.Zero},
		{Offset: 2 * mib, Length: mib, Kind: image.Data},
		{Offset: 3 * mib, Length: 2 * mib, Kind: image.Zero},
		{Offset: 5 * mib, Length: mib, Kind: image.Data},
		{Offset: 6 * mib, Length: 4 * mib, Kind: image.Zero},
	}
	if got := extents(t, img); !equal(got, want) {
		t.Errorf("extents = %v, want %v", got, want)
	}
	if e, err := img.ExtentAt(2*mib + 5); err != nil || e != (image.Extent{Offset: 2*mib + 5, Length: mib - 5}) {
		t.Errorf("extent in the middle = %v, %v", e, err)
	}
	section, err := image.NewSection(img, mib, 5*mib)
	if err != nil {
		t.Fatal(err)
	}
	want = []image.Extent{
		{Offset: 0, Length: mib, Kind: image.Zero},
		{Offset: mib, Length: mib, Kind: image.Data},
		{Offset: 2 * mib, Length: 2 * mib, Kind: image.Zero},
		{Offset: 4 * mib, Length: mib, Kind: image.Data},
	}
	if got := extents(t, section); !equal(got, want) {
		t.Errorf("extents of a section = %v, want %v", got, want)
	}
	all := openFile(t, path, image.FileOptions{NoHoles: true})
	if got := extents(t, all); !equal(got, []image.Extent{{Length: 10 * mib}}) {
		t.Errorf("extents without holes = %v", got)
	}
	for _, off := range []int64{-1, 10 * mib} {
		if _, err := img.ExtentAt(off); err == nil {
			t.Errorf("there is an extent at %d", off)
		}
	}
}

func extents(t *testing.T, img image.Image) (all []image.Extent) {
	t.Helper()
	for off := int64(0); off < img.Size(); {
		e, err := image.ExtentAt(img, off)
		if err != nil {
			t.Fatal(err)
		}
		if e.Offset != off || e.Length < 1 {
			t.Fatalf("extent at %d is %v", off, e)
		}
		all = append(all, e)
		off = e.End()
	}
	return all
}

func equal(a, b []image.Extent) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestConcurrentReadsAndExtentsDoNotDisturbEachOther(t *testing.T) {
	content := random(1 << 20)
	img := openFile(t, writeFile(t, content), image.FileOptions{})
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			p := make([]byte, 4096)
			for i := range 200 {
				off := int64((i*7 + w*13) % 250 * 4096)
				if _, err := image.ExtentAt(img, off); err != nil {
					t.Error(err)
				}
				image.WillNeed(img, off, 4096)
				if _, err := img.ReadAt(p, off); err != nil || !bytes.Equal(p, content[off:off+4096]) {
					t.Errorf("read at %d: %v", off, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestShrunkFileIsAnErrorAndNeverZeros(t *testing.T) {
	for _, tc := range []struct {
		name string
		size int64
	}{{"data", 5000}, {"to nothing", 0}} {
		t.Run(tc.name, func(t *testing.T) {
			path := writeFile(t, random(10_000))
			img := openFile(t, path, image.FileOptions{})
			if err := os.Truncate(path, tc.size); err != nil {
				t.Fatal(err)
			}
			n, err := img.ReadAt(make([]byte, 10_000), 0)
			shrunk, ok := errors.AsType[*image.ShrunkError](err)
			if !ok || int64(n) != tc.size {
				t.Fatalf("ReadAt = %d, %v; want %d bytes and a ShrunkError", n, err, tc.size)
			}
			if want := (image.ShrunkError{Path: path, Want: 10_000, Have: tc.size}); *shrunk != want {
				t.Errorf("error = %+v, want %+v", *shrunk, want)
			}
			if runtime.GOOS != "linux" {
				return
			}
			if _, err := img.ExtentAt(8000); err == nil {
				t.Error("the lost part is an extent")
			} else if _, ok := errors.AsType[*image.ShrunkError](err); !ok {
				t.Errorf("ExtentAt: %v, want a ShrunkError", err)
			}
		})
	}
}

func TestShrunkSparseFileHasNoZeroExtentBehindItsEnd(t *testing.T) {
	path := writeFile(t, nil)
	if err := os.Truncate(path, 1<<20); err != nil {
		t.Fatal(err)
	}
	img := openFile(t, path, image.FileOptions{})
	if err := os.Truncate(path, 1<<19); err != nil {
		t.Fatal(err)
	}
	if e, err := img.ExtentAt(0); err == nil && e.Kind == image.Zero && e.End() > 1<<19 {
		t.Errorf("extent = %v of a file of %d bytes", e, 1<<19)
	}
}

func TestOpenFileSaysWhyItIsNoImage(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cases := []struct {
		path, say string
		is        error
	}{
		{dir, "is a directory", nil},
		{socket, "is a socket", nil},
		{filepath.Join(dir, "none"), "there is no image", fs.ErrNotExist},
		{filepath.Join(file, "x"), "there is no image", syscall.ENOTDIR},
		{os.DevNull, "is a character device", nil},
	}
	if os.Getuid() > 0 {
		closed := filepath.Join(dir, "closed")
		if err := os.WriteFile(closed, nil, 0); err != nil {
			t.Fatal(err)
		}
		cases = append(cases, struct {
			path, say string
			is        error
		}{closed, "no permission", fs.ErrPermission})
	}
	for _, tc := range cases {
		_, err := image.OpenFile(tc.path, image.FileOptions{})
		if err == nil || !strings.Contains(err.Error(), tc.say) || !strings.Contains(err.Error(), tc.path) {
			t.Errorf("open %s: %v, want it to say %q", tc.path, err, tc.say)
		}
		if tc.is != nil && !errors.Is(err, tc.is) {
			t.Errorf("open %s: %v does not wrap %v", tc.path, err, tc.is)
		}
	}
}

func TestSectionOutsideTheImageIsRefused(t *testing.T) {
	img := openFile(t, writeFile(t, random(100)), image.FileOptions{})
	for _, r := range []struct{ off, n int64 }{{0, 101}, {101, 0}, {-1, 5}, {5, -1}, {50, 1<<63 - 1}} {
		if _, err := image.NewSection(img, r.off, r.n); err == nil {
			t.Errorf("section %v of 100 bytes is made", r)
		}
	}
}
