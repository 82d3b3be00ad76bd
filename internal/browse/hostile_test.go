package browse

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/catalog"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// scour does everything that can be done with a tree that is made of size bytes.
func scour(t *testing.T, tree *Tree, size int) {
	t.Helper()
	check := func(what string, n int, err error) {
		if n > size {
			t.Fatalf("%s: %d entries of %d bytes", what, n, size)
		}
		if _, corrupt := errors.AsType[*repo.CorruptError](err); err != nil && !corrupt {
			t.Fatalf("%s: %v is not called damage", what, err)
		}
	}
	n, longest := 0, "/"
	err := tree.Walk(t.Context(), "/", func(path []byte, e *Entry) error {
		n++
		if bytes.Contains(path, []byte("//")) || e.Name == "" || strings.Contains(e.Name, "/") {
			t.Fatalf("path %q of %q", path, e.Name)
		}
		if len(path) > len(longest) && len(path) < 200 {
			longest = string(path)
		}
		return nil
	})
	check("walk", n, err)
	for at := longest; ; at = Clean(at, "..") {
		e, err := tree.Lookup(t.Context(), at)
		check("lookup", 0, ignoreMissing(err))
		if err == nil {
			_, err = tree.Target(e)
			check("target", 0, err)
		}
		for _, list := range []func(func(Entry, error) bool){tree.List(t.Context(), at), tree.Sorted(t.Context(), at)} {
			n := 0
			for _, err := range list {
				if n++; err != nil && !errors.Is(err, ErrNotDir) {
					check("list", n, ignoreMissing(err))
				}
			}
			check("list", n, nil)
		}
		if at == "/" {
			return
		}
	}
}

// ignoreMissing forgives that a table of names leads nowhere.
func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func FuzzArchiveIsBrowsedToItsEndWhateverItHolds(f *testing.F) {
	for _, name := range []string{"tiny.pxar", "tiny.mpxar", "full.mpxar", "full.pxar", "entry-v1.pxar", "reuse.mpxar"} {
		b, err := os.ReadFile(filepath.Join("../format/pxar/testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := pxar.OpenArchive(bytes.NewReader(b), int64(len(b)), nil, 0)
		if err == nil {
			scour(t, overArchive("x", a, nil), len(b))
		}
	})
}

func FuzzCatalogIsBrowsedToItsEndWhateverItHolds(f *testing.F) {
	b, err := os.ReadFile("../format/catalog/testdata/tiny.pcat1")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := catalog.Open(bytes.NewReader(b), int64(len(b)))
		if err == nil {
			scour(t, overCatalog(c, nil), len(b))
		}
	})
}

// A byte of a sound tree changes, or it is cut short.
func TestDamagedTreesAreBrowsedToTheirEnd(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	var meta, cat bytes.Buffer
	w, c := pxar.NewWriter(&meta, pxar.WriterOptions{}), catalog.NewWriter(&cat)
	if err := errors.Join(randomTree(rng, 60).encode(w, c), w.Close(), c.Close()); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		b := bytes.Clone(meta.Bytes())
		if rng.IntN(4) == 0 {
			b = b[:rng.IntN(len(b))]
		} else {
			b[rng.IntN(len(b))] = byte(rng.Uint32())
		}
		if a, err := pxar.OpenArchive(bytes.NewReader(b), int64(len(b)), nil, 0); err == nil {
			scour(t, overArchive("x", a, nil), len(b))
		}
		b = bytes.Clone(cat.Bytes())
		b[rng.IntN(len(b))] = byte(rng.Uint32())
		if c, err := catalog.Open(bytes.NewReader(b), int64(len(b))); err == nil {
			scour(t, overCatalog(c, nil), len(b))
		}
	}
}

// A directory that is reached again and again would be a tree of any size.
func TestCatalogWhoseDirectoriesShareABlockIsRefused(t *testing.T) {
	b := []byte{0x91, 0xfd, 0x60, 0xf9, 0xc4, 0x67, 0x58, 0xd5}
	block := func(entries ...[]byte) int {
		start := len(b)
		table := binary.AppendUvarint(nil, uint64(len(entries)))
		table = append(table, bytes.Join(entries, nil)...)
		b = append(binary.AppendUvarint(b, uint64(len(table))), table...)
		return start
	}
	last := block()
	for range 50 {
		var entries [][]byte
		for i := range 10 {
			e := append([]byte{'d', 1}, byte('a'+i))
			entries = append(entries, binary.AppendUvarint(e, uint64(len(b)-last)))
		}
		last = block(entries...)
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(last))
	n := 0
	err := catalogOf(t, b).Walk(t.Context(), "/", func([]byte, *Entry) error { n++; return nil })
	if _, corrupt := errors.AsType[*repo.CorruptError](err); !corrupt || n > len(b) {
		t.Errorf("%d entries, %v", n, err)
	}
}

// deep makes an archive of directories in each other, each with a name of so many
// bytes, by hand: a Writer remembers all of them.
func deep(levels, name int) []byte {
	var b []byte
	meta := (&pxar.Metadata{Mode: pxar.ModeDirectory | 0o755}).Append(nil)
	text := bytes.Repeat([]byte("n"), name)
	b = append(b, meta...)
	starts := []int{}
	for range levels {
		starts = append(starts, len(b))
		b = pxar.AppendItem(b, pxar.TypeFilename, text, []byte{0})
		b = append(b, meta...)
	}
	line := func(hash uint64, back, size int) []byte {
		l := binary.LittleEndian.AppendUint64(nil, hash)
		l = binary.LittleEndian.AppendUint64(l, uint64(back))
		return binary.LittleEndian.AppendUint64(l, uint64(size))
	}
	const tail = 0xef5eed5b753e1555
	hash := pxar.NameHash(string(text))
	for level := levels; level >= 0; level-- {
		table := len(b)
		var lines []byte
		if level < levels {
			lines = line(hash, table-starts[level], table-starts[level])
		}
		entry := 0
		if level > 0 {
			entry = starts[level-1] + pxar.HeaderSize + name + 1
		}
		lines = append(lines, line(tail, table-entry, pxar.HeaderSize+len(lines)+24)...)
		b = pxar.AppendItem(b, pxar.TypeGoodbye, lines)
	}
	return b
}

func TestDeepArchiveIsWalkedInBoundedMemory(t *testing.T) {
	b := deep(pxar.MaxDepth, 100)
	tree := archiveOf(t, b)
	before, most, n := heap(), uint64(0), 0
	err := tree.Walk(t.Context(), "/", func([]byte, *Entry) error {
		if n++; n%2000 == 0 {
			most = max(most, heap())
		}
		return nil
	})
	if err != nil || n != pxar.MaxDepth {
		t.Fatalf("%d entries, %v", n, err)
	}
	if most > before+8<<20 {
		t.Errorf("%d bytes are held in the depth of %d directories", most-before, n)
	}
	for _, tc := range []struct{ levels, name int }{{pxar.MaxDepth + 1, 1}, {300, 4096}} {
		err := archiveOf(t, deep(tc.levels, tc.name)).Walk(t.Context(), "/", func([]byte, *Entry) error { return nil })
		if _, corrupt := errors.AsType[*repo.CorruptError](err); !corrupt {
			t.Errorf("%d levels of names with %d bytes: %v", tc.levels, tc.name, err)
		}
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestWalkOfManyEntriesKeepsNothingOfThem(t *testing.T) {
	root := &node{Entry: pxar.Entry{Kind: pxar.Directory, Metadata: pxar.Metadata{Mode: pxar.ModeDirectory}}}
	for i := range 200 {
		dir := &node{Entry: pxar.Entry{Name: fmt.Sprint("dir", i), Kind: pxar.Directory, Metadata: pxar.Metadata{Mode: pxar.ModeDirectory}}}
		for k := range 200 {
			dir.kids = append(dir.kids, &node{Entry: pxar.Entry{Name: fmt.Sprint("file", k), Kind: pxar.FIFO, Metadata: pxar.Metadata{Mode: pxar.ModeFIFO}}})
		}
		root.kids = append(root.kids, dir)
	}
	for form, tree := range forms(t, root) {
		n, first := 0, uint64(0)
		err := tree.Walk(t.Context(), "/", func([]byte, *Entry) error {
			switch n++; {
			case n == 1000:
				first = heap()
			case n%10000 == 0 && heap() > first+1<<20:
				t.Errorf("%s: %d bytes more after %d entries", form, heap()-first, n)
			}
			return nil
		})
		if err != nil || n != 200*201 {
			t.Errorf("%s: %d entries, %v", form, n, err)
		}
	}
}
