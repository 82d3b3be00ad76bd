package pxar_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

func TestRandomTreesReadAsTheyWereWritten(t *testing.T) {
	for seed := range uint64(16) {
		for version := 1; version <= 2; version++ {
			t.Run(fmt.Sprintf("seed=%d/version=%d", seed, version), func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 0))
				tree := randomTree(r, 1+r.IntN(400))
				meta, payload := encode(t, tree, version)
				want := tree.list(nil)
				got, entries, err := walk(meta, payload)
				if err != nil {
					t.Fatal(err)
				}
				same(t, "Reader", got, want)
				a, err := open(meta, payload)
				if err != nil {
					t.Fatal(err)
				}
				got, places, err := roam(a, true, len(want))
				if err != nil {
					t.Fatal(err)
				}
				same(t, "Archive", got, want)
				samePlaces(t, entries, places)
				everyPathIsFound(t, a, tree, nil)
			})
		}
	}
}

// everyPathIsFound looks every entry up by its name, and by its offset.
func everyPathIsFound(t *testing.T, a *pxar.Archive, n *node, path []string) {
	t.Helper()
	e, err := a.Lookup(path...)
	if err != nil || e.Offset != n.Offset || e.Kind != n.Kind {
		t.Fatalf("%q is %+v, %v; want %+v", path, e, err, n.Entry)
	}
	at, err := a.EntryAt(e.Offset)
	if err != nil || at.Kind != n.Kind || at.Name != n.Name {
		t.Fatalf("at %d is %+v, %v; want %+v", e.Offset, at, err, n.Entry)
	}
	switch n.Kind {
	case pxar.Hardlink:
		first, err := a.Resolve(e)
		if err != nil || first.Offset != n.first.Offset || first.Kind != pxar.File {
			t.Fatalf("%q leads to %+v, %v; want %+v", path, first, err, n.first.Entry)
		}
		names, err := pxar.SplitTarget(e.Target)
		if err != nil {
			t.Fatal(err)
		}
		if byName, err := a.Lookup(names...); err != nil || byName.Offset != first.Offset {
			t.Fatalf("%q leads to %+v, %v", e.Target, byName, err)
		}
	case pxar.Directory:
		d, err := a.OpenDir(e)
		if err != nil || d.Len() != int64(len(n.kids)) {
			t.Fatalf("%q: %v", path, err)
		}
		if _, err := d.Lookup("no such name at all"); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("err = %v", err)
		}
		for i, k := range n.kids {
			everyPathIsFound(t, a, k, append(path[:len(path):len(path)], k.Name))
			next := ""
			for e, err := range d.EntriesFrom(mustEnd(t, d, k.Name)) {
				if err != nil {
					t.Fatal(err)
				}
				next = e.Name
				break
			}
			if want := append(n.kids, &node{})[i+1].Name; next != want {
				t.Fatalf("behind %q comes %q, want %q", k.Name, next, want)
			}
		}
	}
}

func mustEnd(t *testing.T, d *pxar.Dir, name string) int64 {
	e, err := d.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	return e.EndPos
}

// counter counts what is read.
type counter struct {
	io.ReaderAt
	calls, bytes int64
}

func (c *counter) ReadAt(p []byte, off int64) (int, error) {
	c.calls++
	c.bytes += int64(len(p))
	return c.ReaderAt.ReadAt(p, off)
}

func TestLargeDirectoryIsListedAndSearchedWithFewReads(t *testing.T) {
	const n = 30_000
	root := &node{Entry: pxar.Entry{Kind: pxar.Directory, Metadata: pxar.Metadata{Mode: pxar.ModeDirectory}}}
	for i := range n {
		k := &node{Entry: pxar.Entry{Name: fmt.Sprintf("%08d", i), Kind: pxar.FIFO, Metadata: pxar.Metadata{Mode: pxar.ModeFIFO}}}
		if i%3 == 0 {
			k.Kind, k.Mode = pxar.Directory, pxar.ModeDirectory
		}
		root.kids = append(root.kids, k)
	}
	meta, _ := encode(t, root, 1)
	c := &counter{ReaderAt: bytes.NewReader(meta)}
	a, err := pxar.OpenArchive(c, int64(len(meta)), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, err := range a.Root().Entries() {
		if err != nil {
			t.Fatal(err)
		}
		seen++
	}
	// Each of 10000 directories is looked for in 15 levels, of which 11 are held.
	if seen != n || c.calls > 60_000 || c.bytes > 4*int64(len(meta)) {
		t.Errorf("%d entries with %d reads of %d bytes, the archive has %d", seen, c.calls, c.bytes, len(meta))
	}
	c.calls, c.bytes = 0, 0
	if _, err := a.Lookup("00012345"); err != nil || c.calls > 8 || c.bytes > 4096 {
		t.Errorf("lookup: %d reads of %d bytes, %v", c.calls, c.bytes, err)
	}
}

func TestMetadataAloneCanBeWalked(t *testing.T) {
	tree := randomTree(rand.New(rand.NewPCG(7, 0)), 300)
	meta, _ := encode(t, tree, 2)
	want := tree.list(nil)
	for i := range want {
		want[i].Content = ""
	}
	got, _, err := walk(meta, nil)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "Reader", got, want)
	r, err := pxar.NewReader(bytes.NewReader(meta), nil)
	if err != nil {
		t.Fatal(err)
	}
	for {
		e, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == pxar.File && e.Size > 0 {
			break
		}
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, pxar.ErrNoPayload) {
		t.Errorf("err = %v", err)
	}
	if _, err := r.Next(); err != nil {
		t.Errorf("after a refused read: %v", err)
	}
}

// TestSkippedContentIsNotRead: a stream that seeks is read only where it must
// be, and every second file reads as if all were.
func TestSkippedContentIsNotRead(t *testing.T) {
	root := &node{Entry: pxar.Entry{Kind: pxar.Directory, Metadata: pxar.Metadata{Mode: pxar.ModeDirectory}}}
	for i := range 10 {
		root.kids = append(root.kids, &node{
			Entry:   pxar.Entry{Name: fmt.Sprint(i), Kind: pxar.File, Metadata: pxar.Metadata{Mode: pxar.ModeFile}},
			content: bytes.Repeat([]byte{byte(i)}, 1<<20),
		})
	}
	for version := 1; version <= 2; version++ {
		for _, seeks := range []bool{true, false} {
			meta, payload := encode(t, root, version)
			var mr, pr io.Reader = bytes.NewReader(meta), nil
			if version == 2 {
				pr = bytes.NewReader(payload)
			}
			if !seeks {
				mr = io.MultiReader(mr)
				if pr != nil {
					pr = io.MultiReader(pr)
				}
			}
			r, err := pxar.NewReader(mr, pr)
			if err != nil {
				t.Fatal(err)
			}
			for i := -1; ; i++ {
				e, err := r.Next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if e.Kind == pxar.File && i%2 == 0 {
					b, err := io.ReadAll(r)
					if err != nil || !bytes.Equal(b, root.kids[i].content) {
						t.Fatalf("version %d, seeks %v, file %d: %d bytes, %v", version, seeks, i, len(b), err)
					}
				}
			}
		}
	}
}
