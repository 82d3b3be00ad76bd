package pxar_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// eachDir calls f for the root and all directories below, with their paths.
func eachDir(t testing.TB, d *pxar.Dir, path []string, f func(d *pxar.Dir, path []string)) {
	f(d, path)
	for e, err := range d.Entries() {
		must(t, err)
		if e.Kind == pxar.Directory {
			sub, err := d.Open(e)
			must(t, err)
			eachDir(t, sub, append(slices.Clone(path), e.Name), f)
		}
	}
}

// all reads a directory through cursors of at most n entries each.
func all(t testing.TB, d *pxar.Dir, n int) (list []pxar.Entry) {
	pos := int64(0)
	for {
		c, err := d.Cursor(pos)
		must(t, err)
		for range n {
			e, err := c.Next()
			if errors.Is(err, io.EOF) {
				if _, err := c.Next(); !errors.Is(err, io.EOF) {
					t.Fatalf("behind the end: %v", err)
				}
				return list
			}
			must(t, err)
			list, pos = append(list, *e), e.EndPos
		}
	}
}

func TestDirectoryIsOpenedFromItsEndAlone(t *testing.T) {
	for seed := range uint64(8) {
		for version := 1; version <= 2; version++ {
			a, err := open(encode(t, randomTree(rand.New(rand.NewPCG(seed, 1)), 300), version))
			must(t, err)
			eachDir(t, a.Root(), nil, func(d *pxar.Dir, path []string) {
				got, err := a.DirAt(d.Entry().EndPos)
				if err != nil {
					t.Fatalf("%q: %v", path, err)
				}
				want := all(t, d, 1<<20)
				if !slices.EqualFunc(all(t, got, 1+int(seed)), want, func(x, y pxar.Entry) bool {
					return x.Name == y.Name && x.Offset == y.Offset && x.EndPos == y.EndPos && x.Equal(&y.Metadata)
				}) || got.Len() != d.Len() || !got.Entry().Equal(&d.Entry().Metadata) {
					t.Fatalf("%q opens as %v, not %v", path, got.Entry(), d.Entry())
				}
				for _, e := range want {
					if found, err := got.Lookup(e.Name); err != nil || found.Offset != e.Offset || found.EndPos != e.EndPos {
						t.Fatalf("%q in %q: %v, %v", e.Name, path, found, err)
					}
				}
			})
		}
	}
}

func TestPathOfAnOffsetIsThatOfItsEntry(t *testing.T) {
	for seed := range uint64(8) {
		meta, payload := encode(t, randomTree(rand.New(rand.NewPCG(seed, 2)), 300), 1+int(seed%2))
		a, err := open(meta, payload)
		must(t, err)
		check := func(offset int64, want []string) {
			if got, err := a.PathAt(offset); err != nil || !slices.Equal(got, want) {
				t.Fatalf("offset %d is in %q, %v; want %q", offset, got, err, want)
			}
		}
		eachDir(t, a.Root(), nil, func(d *pxar.Dir, path []string) {
			check(d.Entry().EndPos-1, path)
			check(d.Entry().Body-1, path)
			for _, e := range all(t, d, 1<<20) {
				here := append(slices.Clone(path), e.Name)
				check(e.Offset, here)
				if e.Kind != pxar.Directory {
					check(e.EndPos-1, here)
				}
			}
		})
	}
}

func TestItemsAreThoseOfTheArchiveInARow(t *testing.T) {
	for seed := range uint64(8) {
		meta, payload := encode(t, randomTree(rand.New(rand.NewPCG(seed, 3)), 300), 1+int(seed%2))
		a, err := open(meta, payload)
		must(t, err)
		count := map[pxar.Type]int{}
		var links []int64
		at := int64(0)
		for it, err := range a.Items() {
			must(t, err)
			if it.Offset != at {
				t.Fatalf("%s at %d, the item before ends at %d", it.Type, it.Offset, at)
			}
			at += it.Size
			count[it.Type]++
			if it.Type == pxar.TypeHardlink {
				links = append(links, it.Link)
			}
		}
		if at != int64(len(meta)) {
			t.Fatalf("the items end at %d of %d bytes", at, len(meta))
		}
		_, entries, err := walk(meta, payload)
		must(t, err)
		var wantLinks []int64
		kinds := map[pxar.Kind]int{}
		for i := range entries {
			kinds[entries[i].Kind]++
			if entries[i].Kind == pxar.Hardlink {
				wantLinks = append(wantLinks, entries[i].Link)
			}
		}
		if !slices.Equal(links, wantLinks) || count[pxar.TypeFilename] != len(entries)-1 ||
			count[pxar.TypeGoodbye] != kinds[pxar.Directory] || count[pxar.TypeSymlink] != kinds[pxar.Symlink] {
			t.Fatalf("%v and links %v for %v and links %v", count, links, kinds, wantLinks)
		}
	}
}

// Whatever is at an offset, opening it ends, takes little, and what opens lies
// before it.
func TestNoOffsetOpensWhatIsNoDirectory(t *testing.T) {
	archives := hostile()
	for _, name := range []string{"tiny.pxar", "full.pxar", "full.mpxar"} {
		archives[name] = file(t, name)
	}
	for name, b := range archives {
		a, err := open(b, nil)
		if err != nil {
			continue
		}
		ends, whole := map[int64]bool{}, true
		for it, err := range a.Items() {
			if whole = err == nil; !whole {
				break
			}
			if it.Type == pxar.TypeGoodbye {
				ends[it.Offset+it.Size] = true
			}
		}
		for end := int64(-1); end <= int64(len(b))+1; end++ {
			d, err := a.DirAt(end)
			if err != nil && !errors.Is(err, pxar.ErrFormat) {
				t.Fatalf("%s: offset %d: %v", name, end, err)
			}
			if err == nil && (d.Entry().EndPos != end || d.Entry().Offset >= end || whole && !ends[end]) {
				t.Fatalf("%s: offset %d opens as %+v", name, end, d.Entry())
			}
			if _, err := a.PathAt(end); err != nil && !errors.Is(err, pxar.ErrFormat) {
				t.Fatalf("%s: path of %d: %v", name, end, err)
			}
		}
	}
}

func TestItemsOfHostileArchivesAreRefused(t *testing.T) {
	root := func() *raw { return new(raw).meta(pxar.ModeDirectory) }
	for name, b := range map[string][]byte{
		"an unknown item":              root().name("x").item(0x1234).table(0).b,
		"content behind the end":       root().name("x").meta(pxar.ModeFile).header(pxar.TypePayload, 1<<40).table(0).b,
		"a hard link before the start": root().name("x").item(pxar.TypeHardlink, u64(57), []byte("x\x00")).table(0).b,
		"a hard link by 0 bytes":       root().name("x").item(pxar.TypeHardlink, u64(0), []byte("x\x00")).table(0).b,
		"a short hard link":            root().name("x").item(pxar.TypeHardlink, u64(1)).table(0).b,
	} {
		a, err := open(b, nil)
		must(t, err)
		var last error
		n := 0
		for _, err := range a.Items() {
			n++
			last = err
		}
		if !errors.Is(last, pxar.ErrFormat) || n > 4 {
			t.Errorf("%s: %v after %d items", name, last, n)
		}
	}
}

func TestItemsOfLargeContentsAreReadAlone(t *testing.T) {
	root := &node{Entry: pxar.Entry{Kind: pxar.Directory, Metadata: pxar.Metadata{Mode: pxar.ModeDirectory}}}
	for i := range 20 {
		root.kids = append(root.kids, &node{
			Entry:   pxar.Entry{Name: fmt.Sprint(i), Kind: pxar.File, Metadata: pxar.Metadata{Mode: pxar.ModeFile}},
			content: make([]byte, 1<<20),
		})
	}
	meta, _ := encode(t, root, 1)
	c := &counter{ReaderAt: bytes.NewReader(meta)}
	a, err := pxar.OpenArchive(c, int64(len(meta)), nil, 0)
	must(t, err)
	for _, err := range a.Items() {
		must(t, err)
	}
	if c.bytes > 1<<20 {
		t.Errorf("%d of %d bytes were read", c.bytes, len(meta))
	}
}
