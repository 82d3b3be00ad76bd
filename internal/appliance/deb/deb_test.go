package deb

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"
)

// pack makes a package with the named files; each holds its own name.
func pack(t testing.TB, files ...string) []byte {
	t.Helper()
	var data bytes.Buffer
	zw, err := xz.NewWriter(&data)
	if err != nil {
		t.Fatal(err)
	}
	tw := tar.NewWriter(zw)
	for _, n := range files {
		if err := tw.WriteHeader(&tar.Header{Name: n, Mode: 0o644, Size: int64(len(n)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), zw.Close()); err != nil {
		t.Fatal(err)
	}
	b := []byte(magic)
	for _, m := range []struct{ name, content string }{
		{"debian-binary", "2.0\n"}, {"control.tar.xz", "odd"}, {"data.tar.xz", data.String()},
	} {
		b = append(b, fmt.Sprintf("%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.name, 0, 0, 0, "100644", len(m.content))...)
		b = append(b, m.content...)
		if len(m.content)%2 == 1 {
			b = append(b, '\n')
		}
	}
	return b
}

func unpackTo(t *testing.T, dir string, files ...string) (string, error) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "linux-image-6.1_1_amd64.deb")
	if err := os.WriteFile(name, pack(t, files...), 0o644); err != nil {
		t.Fatal(err)
	}
	return UnpackKernel(name, dir)
}

func TestKernelIsUnpackedOnce(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		v, err := unpackTo(t, dir, "./boot/vmlinuz-6.1", "./boot/System.map-6.1",
			"./lib/modules/6.1/kernel/a/b.ko", "./lib/modules/6.1/modules.builtin", "./usr/share/doc/x")
		if err != nil || v != "6.1" {
			t.Fatalf("%q, %v", v, err)
		}
	}
	var got []string
	_ = filepath.WalkDir(dir, func(p string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			rel, _ := filepath.Rel(dir, p)
			got = append(got, rel)
		}
		return err
	})
	want := "6.1/modules/kernel/a/b.ko 6.1/modules/modules.builtin 6.1/vmlinuz"
	if strings.Join(got, " ") != want {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func TestUnpackRefuses(t *testing.T) {
	for name, files := range map[string][]string{
		"a package that only names another": {"./usr/share/doc/x"},
		"two kernels":                       {"./boot/vmlinuz-6.1", "./boot/vmlinuz-6.2"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if _, err := unpackTo(t, dir, files...); err == nil {
				t.Fatal("unpacked")
			}
			if left, _ := os.ReadDir(dir); len(left) != 0 {
				t.Fatalf("left behind: %v", left)
			}
		})
	}
}

func TestNamesDoNotLeaveTheDirectory(t *testing.T) {
	dir := t.TempDir()
	if _, err := unpackTo(t, dir, "./boot/vmlinuz-6.1", "./lib/modules/6.1/kernel/../../../../../../tmp/escaped"); err != nil {
		t.Fatal(err)
	}
	if m, _ := filepath.Glob(filepath.Join(dir, "*")); len(m) != 1 {
		t.Fatalf("%q", m)
	}
	// A version that is a path would lead out of the cache.
	if v, err := unpackTo(t, dir, "./boot/vmlinuz-.."); err == nil {
		t.Fatalf("version %q", v)
	}
}

func FuzzData(f *testing.F) {
	f.Add(pack(f, "./boot/vmlinuz-6.1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		tr, err := Data(bytes.NewReader(b))
		if err != nil {
			return
		}
		for range 100 {
			if _, err := tr.Next(); err != nil {
				return
			}
		}
	})
}
