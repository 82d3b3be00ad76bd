package pxar_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// node is a tree as tests think of one.
type node struct {
	pxar.Entry
	content []byte
	kids    []*node
	first   *node // of a hard link
}

// seen is what a reader says of an entry, without where it lies.
type seen struct {
	Path    string
	Kind    pxar.Kind
	Meta    pxar.Metadata
	Target  string
	Device  pxar.Device
	Content string
}

// list is the tree in the order of the archive.
func (n *node) list(path []string) []seen {
	all := []seen{see(path, &n.Entry, n.content)}
	for _, k := range n.kids {
		all = append(all, k.list(append(slices.Clone(path), k.Name))...)
	}
	return all
}

func see(path []string, e *pxar.Entry, content []byte) seen {
	return seen{pxar.Join(path), e.Kind, e.Metadata, e.Target, e.Device, string(content)}
}

func (n *node) encode(w *pxar.Writer) error {
	switch n.Kind {
	case pxar.Directory:
		if err := w.BeginDir(&n.Entry); err != nil {
			return err
		}
		for _, k := range n.kids {
			if err := k.encode(w); err != nil {
				return err
			}
		}
		return w.EndDir()
	case pxar.File:
		n.Size = int64(len(n.content))
		c, err := w.AddFile(&n.Entry, bytes.NewReader(n.content))
		if err == nil && c != (pxar.Content{}) {
			err = fmt.Errorf("content %+v", c)
		}
		return err
	case pxar.Hardlink:
		n.Link = n.first.Offset
	}
	return w.Add(&n.Entry)
}

// encode returns the archive and, of version 2, the payload stream.
func encode(t testing.TB, n *node, version int) (meta, payload []byte) {
	t.Helper()
	var m, p bytes.Buffer
	o := pxar.WriterOptions{}
	if version == 2 {
		o.Payload = &p
	}
	w := pxar.NewWriter(&m, o)
	if err := errors.Join(n.encode(w), w.Close()); err != nil {
		t.Fatal(err)
	}
	if int64(m.Len()) != w.Position() || version == 2 && int64(p.Len()) != w.PayloadPosition() {
		t.Fatalf("%d and %d bytes, the positions are %d and %d", m.Len(), p.Len(), w.Position(), w.PayloadPosition())
	}
	return m.Bytes(), p.Bytes()
}

// walk reads an archive from start to end.
func walk(meta, payload []byte) (all []seen, entries []pxar.Entry, err error) {
	var p io.Reader
	if payload != nil {
		p = bytes.NewReader(payload)
	}
	r, err := pxar.NewReader(bytes.NewReader(meta), p)
	if err != nil {
		return nil, nil, err
	}
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			_, flaw := r.Flaws()
			return all, entries, flaw
		}
		if err != nil {
			return all, entries, err
		}
		if e.Kind == pxar.End {
			continue
		}
		var content []byte
		if r.Version() == 1 || payload != nil {
			if content, err = io.ReadAll(r); err != nil {
				return all, entries, err
			}
		}
		all, entries = append(all, see(r.Path(), e, content)), append(entries, *e)
	}
}

func open(meta, payload []byte) (*pxar.Archive, error) {
	var p io.ReaderAt
	if payload != nil {
		p = bytes.NewReader(payload)
	}
	return pxar.OpenArchive(bytes.NewReader(meta), int64(len(meta)), p, int64(len(payload)))
}

// roam reads an archive by its tables; budget bounds the entries.
func roam(a *pxar.Archive, contents bool, budget int) (all []seen, entries []pxar.Entry, err error) {
	var down func(d *pxar.Dir, path []string) error
	down = func(d *pxar.Dir, path []string) error {
		for e, err := range d.Entries() {
			if err != nil {
				return err
			}
			if budget--; budget < 0 {
				return errors.New("too many entries")
			}
			var content []byte
			if e.Kind == pxar.File && contents {
				s, err := a.Content(e)
				if err != nil {
					return err
				}
				if content, err = io.ReadAll(s); err != nil {
					return err
				}
			}
			here := append(slices.Clone(path), e.Name)
			all, entries = append(all, see(here, e, content)), append(entries, *e)
			if e.Kind == pxar.Directory {
				sub, err := d.Open(e)
				if err != nil {
					return err
				}
				if err := down(sub, here); err != nil {
					return err
				}
			}
		}
		return nil
	}
	root := a.Root().Entry()
	all, entries = append(all, see(nil, root, nil)), append(entries, *root)
	return all, entries, down(a.Root(), nil)
}

func same(t testing.TB, what string, got, want []seen) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Fatalf("%s: entry %d is\n%+v, want\n%+v", what, i, got[i], want[i])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%s: %d entries, want %d", what, len(got), len(want))
	}
}

// samePlaces compares entries of a Reader with those of an Archive: only the
// latter knows where directories end.
func samePlaces(t testing.TB, reader, archive []pxar.Entry) {
	t.Helper()
	for i := range reader {
		r := reader[i]
		if r.Kind == pxar.Directory {
			r.EndPos = archive[i].EndPos
		}
		if !reflect.DeepEqual(r, archive[i]) {
			t.Fatalf("the Reader has\n%+v, the Archive\n%+v", r, archive[i])
		}
	}
}

// randomTree makes a tree of about n entries of all kinds.
func randomTree(r *rand.Rand, n int) *node {
	var files []*node
	var paths []string
	var grow func(dir *node, path string, n, depth int)
	grow = func(dir *node, path string, n, depth int) {
		used := map[string]bool{}
		for n > 0 {
			k := &node{Entry: pxar.Entry{Kind: pxar.Kind(1 + r.IntN(8)), Name: randomName(r)}}
			n--
			if used[k.Name] || k.Kind == pxar.Hardlink && len(files) == 0 {
				continue
			}
			used[k.Name] = true
			k.Metadata = randomMeta(r, k.Kind)
			switch k.Kind {
			case pxar.Directory:
				if depth < 10 && n > 0 {
					sub := r.IntN(n + 1)
					grow(k, path+k.Name+"/", sub, depth+1)
					n -= sub
				}
			case pxar.File:
				k.content = randomBytes(r, []int{0, 1, 100, 5000, 300_000}[min(r.IntN(40), 4)]*r.IntN(3))
				if k.content == nil {
					k.content = []byte{}
				}
				files, paths = append(files, k), append(paths, path+k.Name)
			case pxar.Symlink:
				k.Target = string(append([]byte("/../"), bytes.ReplaceAll(randomBytes(r, 1+r.IntN(50)), []byte{0}, []byte{'x'})...))
			case pxar.Hardlink:
				i := r.IntN(len(files))
				if k.first, k.Target = files[i], paths[i]; len(k.Target) > pxar.MaxName {
					continue // no link can name it
				}
			case pxar.CharDevice, pxar.BlockDevice:
				k.Device = pxar.Device{Major: r.Uint64N(1 << 32), Minor: r.Uint64()}
			}
			dir.kids = append(dir.kids, k)
		}
	}
	root := &node{Entry: pxar.Entry{Kind: pxar.Directory, Metadata: randomMeta(r, pxar.Directory)}}
	grow(root, "", n, 0)
	return root
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func randomName(r *rand.Rand) string {
	n := 1 + r.IntN(12)
	if r.IntN(50) == 0 {
		n = pxar.MaxName - r.IntN(3)
	}
	b := randomBytes(r, n)
	for i, c := range b {
		if c == 0 || c == '/' || n <= 2 {
			b[i] = 'a' + c%26
		}
	}
	return string(b)
}

var modes = map[pxar.Kind]uint32{
	pxar.Directory: pxar.ModeDirectory, pxar.File: pxar.ModeFile, pxar.Symlink: pxar.ModeSymlink, pxar.CharDevice: pxar.ModeCharDevice,
	pxar.BlockDevice: pxar.ModeBlockDevice, pxar.FIFO: pxar.ModeFIFO, pxar.Socket: pxar.ModeSocket,
}

func randomMeta(r *rand.Rand, k pxar.Kind) pxar.Metadata {
	if k == pxar.Hardlink {
		return pxar.Metadata{}
	}
	m := pxar.Metadata{
		Mode: modes[k] | r.Uint32N(0o10000), Flags: r.Uint64() >> r.IntN(64), UID: r.Uint32(), GID: r.Uint32(),
		Mtime: pxar.Time{Sec: int64(r.Uint64()) >> r.IntN(64), Nsec: r.Uint32N(1e9)},
	}
	if r.IntN(4) > 0 {
		return m
	}
	for range r.IntN(4) {
		n := []int{0, 3, 65_500}[min(r.IntN(20), 2)]
		m.Xattrs = append(m.Xattrs, pxar.Xattr{Name: "user." + string('a'+rune(r.IntN(26))), Value: append([]byte{}, randomBytes(r, n)...)})
	}
	if r.IntN(2) == 0 {
		m.FCaps = append([]byte{}, randomBytes(r, r.IntN(25))...)
	}
	m.ProjectID = uint64(r.IntN(3))
	named := func() (l []pxar.ACLEntry) {
		for range r.IntN(3) {
			l = append(l, pxar.ACLEntry{ID: r.Uint64(), Perm: pxar.Perm(r.IntN(8))})
		}
		return l
	}
	a := pxar.ACL{Users: named(), Groups: named(), DefaultUsers: named(), DefaultGroups: named()}
	if r.IntN(2) == 0 {
		a.GroupObj = new(pxar.Perm(r.IntN(8)))
	}
	if r.IntN(2) == 0 {
		a.Default = &pxar.ACLDefault{UserObj: 7, GroupObj: pxar.Perm(r.IntN(8)), Other: pxar.NoPerm, Mask: pxar.NoPerm}
	}
	if !a.Equal(nil) {
		m.ACL = &a
	}
	return m
}
