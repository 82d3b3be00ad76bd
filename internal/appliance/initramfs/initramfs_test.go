package initramfs

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/u-root/u-root/pkg/cpio"
)

func build(t *testing.T, names ...string) []byte {
	t.Helper()
	b := New()
	for _, n := range names {
		if err := b.Add(n, []byte("content of "+n), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if _, err := b.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestSameContentGivesTheSameBytes(t *testing.T) {
	if a, b := build(t, "/init", "/etc/a/b"), build(t, "/etc/a/b", "/init"); !bytes.Equal(a, b) {
		t.Fatal("the order of Add shows")
	}
}

func TestDirectoriesComeBeforeWhatIsInThem(t *testing.T) {
	var got []string
	r := cpio.Newc.Reader(bytes.NewReader(build(t, "/etc/a/b", "/init")))
	for {
		rec, err := r.ReadRecord()
		if err == io.EOF || err == nil && rec.Name == cpio.Trailer {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, rec.Name)
	}
	if want := "dev dev/console dev/null etc etc/a etc/a/b init root"; strings.Join(got, " ") != want {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func TestTwoContentsForOneNameAreRefused(t *testing.T) {
	b := New()
	for i, content := range []string{"a", "a", "b"} {
		err := b.Add("/x", []byte(content), 0o644)
		if (err != nil) != (i == 2) {
			t.Fatalf("content %d: %v", i, err)
		}
	}
}

func TestToolComesWithItsLibraries(t *testing.T) {
	p, err := FindTool("sh")
	if err != nil {
		t.Skip(err)
	}
	files, err := closure(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if _, err := os.Stat(f); err != nil {
			t.Error(err)
		}
	}
	if interp := len(files) > 1 && strings.Contains(filepath.Base(files[1]), "ld-"); len(files) > 1 && !interp {
		t.Errorf("no loader among %q", files)
	}
}
