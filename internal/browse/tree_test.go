package browse

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/catalog"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// node is a tree as tests think of one.
type node struct {
	pxar.Entry
	kids  []*node
	first *node // of a hard link
}

// encode writes a tree to an archive and to a catalog, of which the root must not
// know: there it is a directory for the archive.
func (n *node) encode(w *pxar.Writer, c *catalog.Writer) error {
	switch n.Kind {
	case pxar.Directory:
		name := n.Name
		if name == "" {
			name = "root.pxar.didx"
		}
		err := errors.Join(w.BeginDir(&n.Entry), c.StartDir(name))
		for _, k := range n.kids {
			err = errors.Join(err, k.encode(w, c))
		}
		return errors.Join(err, w.EndDir(), c.EndDir())
	case pxar.File:
		return errors.Join(w.AddBytes(&n.Entry, make([]byte, n.Size)), c.File(n.Name, uint64(n.Size), n.Mtime.Sec))
	case pxar.Hardlink:
		n.Link = n.first.Offset
	}
	return errors.Join(w.Add(&n.Entry), c.Add(catalog.Kind(Letter(n.Kind)), n.Name))
}

// forms are the same tree in all forms that there are.
func forms(t testing.TB, root *node) map[string]*Tree {
	t.Helper()
	all := map[string]*Tree{}
	for _, version := range []int{1, 2} {
		var meta, payload, cat bytes.Buffer
		o := pxar.WriterOptions{}
		if version == 2 {
			o.Payload = &payload
		}
		w, c := pxar.NewWriter(&meta, o), catalog.NewWriter(&cat)
		if err := errors.Join(root.encode(w, c), w.Close(), c.Close()); err != nil {
			t.Fatal(err)
		}
		all[fmt.Sprintf("version %d", version)] = archiveOf(t, meta.Bytes())
		whole := catalogOf(t, cat.Bytes())
		below, err := whole.Below(t.Context(), "/root.pxar.didx")
		if err != nil {
			t.Fatal(err)
		}
		all["catalog"] = below
	}
	return all
}

func archiveOf(t testing.TB, b []byte) *Tree {
	t.Helper()
	a, err := pxar.OpenArchive(bytes.NewReader(b), int64(len(b)), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	return overArchive("root.pxar", a, nil)
}

func catalogOf(t testing.TB, b []byte) *Tree {
	t.Helper()
	c, err := catalog.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return overCatalog(c, nil)
}

// randomTree makes a tree of about so many entries, with names that need care.
func randomTree(rng *rand.Rand, entries int) *node {
	root := &node{Entry: pxar.Entry{Kind: pxar.Directory, Metadata: randomMeta(rng, pxar.ModeDirectory)}}
	var file *node
	var fill func(dir *node, budget, depth int) int
	fill = func(dir *node, budget, depth int) int {
		used := 0
		taken := map[string]bool{}
		for range rng.IntN(12) + 1 {
			if used >= budget {
				break
			}
			name := randomName(rng)
			if taken[name] {
				continue
			}
			taken[name] = true
			n := &node{Entry: pxar.Entry{Name: name}}
			used++
			switch kind := rng.IntN(12); {
			case kind < 5 && depth < 40:
				n.Kind, n.Metadata = pxar.Directory, randomMeta(rng, pxar.ModeDirectory)
				used += fill(n, budget-used, depth+1)
			case kind < 8:
				n.Kind, n.Metadata, n.Size = pxar.File, randomMeta(rng, pxar.ModeFile), rng.Int64N(300)
				file = n
			case kind == 8:
				n.Kind, n.Metadata, n.Target = pxar.Symlink, randomMeta(rng, pxar.ModeSymlink), "../x"
			case kind == 9 && file != nil:
				n.Kind, n.Target, n.first = pxar.Hardlink, "first", file
			case kind == 10:
				n.Kind, n.Metadata = pxar.FIFO, randomMeta(rng, pxar.ModeFIFO)
			default:
				n.Kind, n.Metadata = pxar.CharDevice, randomMeta(rng, pxar.ModeCharDevice)
				n.Device = pxar.Device{Major: 1, Minor: 3}
			}
			dir.kids = append(dir.kids, n)
		}
		return used
	}
	for left := entries; left > 0; {
		n := &node{Entry: pxar.Entry{Name: fmt.Sprintf("%05d", left), Kind: pxar.Directory, Metadata: randomMeta(rng, pxar.ModeDirectory)}}
		left -= fill(n, left, 1) + 1
		root.kids = append(root.kids, n)
	}
	return root
}

func randomMeta(rng *rand.Rand, kind uint32) pxar.Metadata {
	return pxar.Metadata{Mode: kind | rng.Uint32N(0o10000), UID: rng.Uint32N(3), Mtime: pxar.Time{Sec: rng.Int64N(1<<40) - 1<<39, Nsec: rng.Uint32N(1e9)}}
}

func randomName(rng *rand.Rand) string {
	const letters = "abcABC.*[]?\\ \"'\n\xff\xc3\xa9-!"
	b := make([]byte, 1+rng.IntN(5))
	for i := range b {
		b[i] = letters[rng.IntN(len(letters))]
	}
	if s := string(b); s != "." && s != ".." {
		return s
	}
	return "dots"
}
