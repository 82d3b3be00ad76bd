package extract_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/extract"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// memory is a stream that can be rewritten.
type memory struct{ bytes.Buffer }

func (m *memory) Offset() int64 { return int64(m.Len()) }

func (m *memory) Rewrite(p []byte, off int64) error {
	if n := copy(m.Bytes()[off:], p); n < len(p) {
		return io.ErrShortWrite
	}
	return nil
}

// holey makes contents with data at these places, 64 KiB each.
func holey(size int, at ...int) string {
	b := make([]byte, size)
	for n, off := range at {
		for i := off; i < min(off+64<<10, size); i++ {
			b[i] = byte(n) | 1
		}
	}
	return string(b)
}

func TestTarHasHoles(t *testing.T) {
	const mib = 1 << 20
	noise := make([]byte, 3*mib+77)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	var every []int
	for off := 0; off < 80*mib; off += 128 << 10 {
		every = append(every, off)
	}
	contents := map[string]string{
		"a-small-hole":   holey(600<<10, 0),
		"b-all-zeros":    holey(5 * mib),
		"c-at-the-end":   holey(4*mib+5, 0, mib),
		"d-at-the-start": holey(4*mib+513, 4*mib-100),
		"e-both":         holey(9*mib, 3*mib, 3*mib+64<<10, 8*mib),
		"f-none":         string(noise),
		"g-too-many":     holey(80*mib, every...),
		"h-after":        "small",
		"i-exactly":      holey(mib, 0),
		"k-" + string(bytes.Repeat([]byte("long"), 60)): holey(2*mib, mib),
	}
	root := dir("")
	for name, c := range contents {
		f := file(name, c)
		f.Mode |= 0o600
		root.kids = append(root.kids, f)
	}
	a := encode(t, root.sorted(), 1)
	var out memory
	res, err := extract.Tar(t.Context(), a.walker(t, extract.Selection{}), &out, extract.StreamOptions{})
	if err != nil || res.Made.Files != int64(len(contents)) {
		t.Fatal(res, err)
	}
	if out.Len() > 72*mib { // of 112 MiB; the one with too many holes keeps most of them
		t.Errorf("the tar has %d bytes", out.Len())
	}

	// Go's reader.
	read := tar.NewReader(bytes.NewReader(out.Bytes()))
	seen := 0
	for {
		h, err := read.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeDir {
			continue
		}
		seen++
		got, err := io.ReadAll(read)
		if err != nil || string(got) != contents[h.Name[2:]] {
			t.Errorf("%s: %d bytes, %v", h.Name, len(got), err)
		}
	}
	if seen != len(contents) {
		t.Errorf("%d files", seen)
	}

	// GNU tar, which makes holes of them.
	if _, err := exec.LookPath("tar"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	at := t.TempDir()
	if err := os.WriteFile(filepath.Join(at, "a.tar"), out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := exec.CommandContext(t.Context(), "tar", "-C", at, "-xf", filepath.Join(at, "a.tar")).CombinedOutput(); err != nil || len(text) > 0 {
		t.Fatalf("tar: %v: %s", err, text)
	}
	for name, c := range contents {
		got, err := os.ReadFile(filepath.Join(at, name))
		if err != nil || string(got) != c {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
			continue
		}
		info, err := os.Stat(filepath.Join(at, name))
		if err != nil {
			t.Fatal(err)
		}
		takes := info.Sys().(*syscall.Stat_t).Blocks * 512
		if sparse := slices.Contains([]byte("bcdek"), name[0]); sparse && takes > 512<<10 {
			t.Errorf("%s takes %d bytes", name, takes)
		}
	}
}

// Holes or not, what is written is a tar of the same files; and what is written
// to a pipe has none.
func TestTarToAPipeHasNoHoles(t *testing.T) {
	root := dir("")
	root.kids = append(root.kids, file("a", holey(3<<20, 1<<20)))
	a := encode(t, root, 1)
	var out bytes.Buffer
	if _, err := extract.Tar(t.Context(), a.walker(t, extract.Selection{}), &out, extract.StreamOptions{}); err != nil {
		t.Fatal(err)
	}
	if out.Len() < 3<<20 {
		t.Errorf("%d bytes", out.Len())
	}
}

// A content of the wrong length ends the tar; it never looks whole.
func TestSparseContentOfAnotherLengthIsRefused(t *testing.T) {
	root := dir("")
	root.kids = append(root.kids, file("a", holey(3<<20, 1<<20)))
	for _, off := range []int64{-1, 1, 1 << 20, -1 << 20} {
		t.Run(fmt.Sprint(off), func(t *testing.T) {
			a := encode(t, root, 1)
			src := &lying{Source: a.walker(t, extract.Selection{}), by: off}
			if _, err := extract.Tar(t.Context(), src, &memory{}, extract.StreamOptions{}); err == nil {
				t.Error("no error")
			}
		})
	}
}

// lying says another size of files than they have.
type lying struct {
	extract.Source
	by int64
}

func (l *lying) Next() (*pxar.Entry, error) {
	e, err := l.Source.Next()
	if err != nil || e.Kind != pxar.File {
		return e, err
	}
	other := *e
	other.Size += l.by
	return &other, nil
}
