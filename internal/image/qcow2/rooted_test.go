package qcow2_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	format "github.com/holdfast-backup/holdfast/internal/format/qcow2"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/image/qcow2"
)

// rootOf opens files below a directory.
func rootOf(t *testing.T, dir string) qcow2.Root {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return qcow2.Root{Dir: dir, Open: func(name string) (qcow2.File, error) {
		f, err := root.Open(name)
		if err != nil {
			return nil, err
		}
		return image.NewFile(f, image.FileOptions{})
	}}
}

// plant writes the header of an empty image that names others.
func plant(t *testing.T, dir, name string, h format.Header, dataFile bool) {
	t.Helper()
	h.Version, h.ClusterBits, h.Size, h.L1Entries, h.L1Offset = 3, 16, 1<<20, 1, 1<<16
	b, err := h.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if dataFile {
		b[79] |= format.IncompatDataFile
	}
	b = append(b, make([]byte, 2<<16-len(b))...)
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestHostileImagesOpenNothingOutsideOfTheirRoot(t *testing.T) {
	above := t.TempDir()
	dir := filepath.Join(above, "store")
	plant(t, above, "secret.qcow2", format.Header{}, false)
	plant(t, dir, "1/base/a.qcow2", format.Header{}, false)
	if err := os.WriteFile(filepath.Join(dir, "1/base/raw"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../../secret.qcow2", filepath.Join(dir, "1/base/link.qcow2")); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		h    format.Header
		data bool
		is   error // nil: any
	}{
		{name: "absolute name elsewhere", h: format.Header{BackingFile: above + "/secret.qcow2", BackingFormat: "qcow2"}, is: qcow2.ErrNotAllowed},
		{name: "a file of the system", h: format.Header{BackingFile: "/etc/passwd", BackingFormat: "raw"}, is: qcow2.ErrNotAllowed},
		{name: "above the root", h: format.Header{BackingFile: "../../../secret.qcow2", BackingFormat: "qcow2"}, is: qcow2.ErrNotAllowed},
		{name: "above the root by an absolute name", h: format.Header{BackingFile: dir + "/../secret.qcow2"}, is: qcow2.ErrNotAllowed},
		{name: "a name that begins like the root", h: format.Header{BackingFile: dir + "2/secret.qcow2"}, is: qcow2.ErrNotAllowed},
		{name: "the root", h: format.Header{BackingFile: "../.."}, is: qcow2.ErrNotAllowed},
		{name: "through a symbolic link", h: format.Header{BackingFile: "../base/link.qcow2", BackingFormat: "qcow2"}},
		{name: "a raw file of the root", h: format.Header{BackingFile: "../base/raw", BackingFormat: "raw"}, is: qcow2.ErrNotAllowed},
		{name: "a raw file without a format", h: format.Header{BackingFile: "../base/raw"}, is: format.ErrFormat},
		{name: "a data file", h: format.Header{}, data: true, is: qcow2.ErrNotAllowed},
		{name: "a server", h: format.Header{BackingFile: "nbd://127.0.0.1/x", BackingFormat: "raw"}, is: qcow2.ErrNotAllowed},
		{name: "a JSON description", h: format.Header{BackingFile: `json:{"file.filename":"/etc/passwd"}`, BackingFormat: "qcow2"}, is: qcow2.ErrNotAllowed},
		{name: "itself", h: format.Header{BackingFile: "a.qcow2", BackingFormat: "qcow2"}, is: format.ErrFormat},
		{name: "itself by another name", h: format.Header{BackingFile: dir + "/1/./top/../top/a.qcow2"}, is: format.ErrFormat},
		{name: "what is not there", h: format.Header{BackingFile: "../gone/a.qcow2", BackingFormat: "qcow2"}, is: os.ErrNotExist},
		{name: "a directory", h: format.Header{BackingFile: "../base"}},
		{name: "a zero byte", h: format.Header{BackingFile: "../base/a.qcow2\x00"}, is: qcow2.ErrNotAllowed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			plant(t, dir, "1/top/a.qcow2", tc.h, tc.data)
			img, err := qcow2.OpenIn(rootOf(t, dir), "1/top/a.qcow2")
			if err == nil {
				t.Fatalf("opened %q", img.Files())
			}
			if tc.is != nil && !errors.Is(err, tc.is) {
				t.Fatalf("err = %v, want %v", err, tc.is)
			}
		})
	}
	for _, name := range []string{"../base/a.qcow2", dir + "/1/base/a.qcow2"} {
		plant(t, dir, "1/top/a.qcow2", format.Header{BackingFile: name}, false)
		img, err := qcow2.OpenIn(rootOf(t, dir), "1/top/a.qcow2")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_ = img.Close()
	}
}

func TestLoopsAndEndlessChainsEnd(t *testing.T) {
	dir := t.TempDir()
	for n := range qcow2.MaxRooted + 1 {
		plant(t, dir, fmt.Sprintf("%d.qcow2", n), format.Header{BackingFile: fmt.Sprintf("%d.qcow2", n+1), BackingFormat: "qcow2"}, false)
	}
	plant(t, dir, fmt.Sprintf("%d.qcow2", qcow2.MaxRooted+1), format.Header{BackingFile: "500.qcow2"}, false)
	root := rootOf(t, dir)
	if _, err := qcow2.OpenIn(root, "0.qcow2"); !errors.Is(err, format.ErrUnsupported) {
		t.Errorf("endless chain: %v", err)
	}
	if _, err := qcow2.OpenIn(root, "900.qcow2"); !errors.Is(err, format.ErrFormat) {
		t.Errorf("loop: %v", err)
	}
	plant(t, dir, fmt.Sprintf("%d.qcow2", qcow2.MaxRooted), format.Header{}, false)
	img, err := qcow2.OpenIn(root, "1.qcow2")
	if err != nil {
		t.Fatalf("a chain of %d files: %v", qcow2.MaxRooted, err)
	}
	defer img.Close()
	if n := img.Layers(); n != qcow2.MaxRooted {
		t.Errorf("%d layers", n)
	}
}

// What the first files of a chain hold, put on top of the rest, is the image.
func TestDeltaIsWhatTheFirstFilesAdd(t *testing.T) {
	qemu(t)
	dir := t.TempDir()
	at := func(n int) string { return filepath.Join(dir, fmt.Sprintf("%d.qcow2", n)) }
	run(t, "qemu-img", "create", "-f", "qcow2", at(0), "8M")
	qio(t, at(0), "write -P 1 0 3M", "write -P 2 5M 1M")
	run(t, "qemu-img", "create", "-f", "qcow2", "-b", "0.qcow2", "-F", "qcow2", at(1), "9M")
	qio(t, at(1), "write -P 3 1M 64k", "write -z 2M 128k", "write -c -P 4 4M 64k")
	run(t, "qemu-img", "create", "-f", "qcow2", "-b", "1.qcow2", "-F", "qcow2", at(2), "10M")
	qio(t, at(2), "write -P 5 1M 32k", "write -P 6 9M 512k")

	root := rootOf(t, dir)
	top, err := qcow2.OpenIn(root, "2.qcow2")
	if err != nil {
		t.Fatal(err)
	}
	defer top.Close()
	want := make([]byte, top.Size())
	if _, err := top.ReadAt(want, 0); err != nil {
		t.Fatal(err)
	}
	for layers := 1; layers <= 3; layers++ {
		got := make([]byte, top.Size())
		if layers < 3 {
			rest, err := qcow2.OpenIn(root, fmt.Sprintf("%d.qcow2", 2-layers))
			if err != nil {
				t.Fatal(err)
			}
			defer rest.Close()
			if _, err := rest.ReadAt(got[:rest.Size()], 0); err != nil {
				t.Fatal(err)
			}
		}
		delta, err := top.Delta(layers)
		if err != nil {
			t.Fatal(err)
		}
		changed := int64(0)
		for off := int64(0); off < top.Size(); {
			e, err := delta.ExtentAt(off)
			if err != nil || e.Offset != off || e.Length <= 0 {
				t.Fatal(e, err)
			}
			switch e.Kind {
			case image.Zero:
				clear(got[off:e.End()])
			case image.Data:
				copy(got[off:e.End()], want[off:e.End()])
			}
			if e.Kind != image.Unchanged {
				changed += e.Length
			}
			off = e.End()
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%d layers: the delta is not what they add", layers)
		}
		if most := []int64{0, 2 << 20, 3 << 20, 10 << 20}[layers]; changed > most {
			t.Errorf("%d layers: %d bytes of changes", layers, changed)
		}
	}
	for _, n := range []int{0, 4} {
		if _, err := top.Delta(n); err == nil {
			t.Errorf("Delta(%d) of 3 files", n)
		}
	}
}
