package btrfs

import (
	"cmp"
	"errors"
	"slices"
	"sort"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// key orders the items of a tree.
type key struct {
	object uint64
	kind   byte
	offset uint64
}

func parseKey(b []byte) key {
	return key{object: le.Uint64(b), kind: b[8], offset: le.Uint64(b[9:])}
}

func (k key) compare(o key) int {
	return cmp.Or(cmp.Compare(k.object, o.object), cmp.Compare(k.kind, o.kind), cmp.Compare(k.offset, o.offset))
}

func (k key) less(o key) bool {
	if k.object != o.object {
		return k.object < o.object
	}
	if k.kind != o.kind {
		return k.kind < o.kind
	}
	return k.offset < o.offset
}

// root is where a tree begins.
type root struct {
	tree  uint64
	at    uint64
	level int
}

// node is one block of a tree, whole and checked.
type node struct {
	raw   []byte
	level int
	n     int
}

func (n *node) key(i int) key {
	if n.level == 0 {
		return parseKey(n.raw[headerSize+i*itemSize:])
	}
	return parseKey(n.raw[headerSize+i*pointerSize:])
}

func (n *node) child(i int) uint64 {
	return le.Uint64(n.raw[headerSize+i*pointerSize+keySize:])
}

// data is what belongs to an item of a leaf.
func (n *node) data(i int) ([]byte, bool) {
	b := n.raw[headerSize+i*itemSize+keySize:]
	off, size := int64(le.Uint32(b)), int64(le.Uint32(b[4:]))
	if headerSize+off+size > int64(len(n.raw)) {
		return nil, false
	}
	return n.raw[headerSize+off : headerSize+off+size], true
}

// load reads a node, from whichever copy is sound.
func (f *FS) load(at uint64, level int) (*node, error) {
	f.mu.Lock()
	n := f.nodes[at]
	f.mu.Unlock()
	if n != nil && n.level == level {
		return n, nil
	}
	ways, length, err := f.place(at)
	if err != nil {
		return nil, err
	}
	if length < f.node {
		return nil, fsread.Corrupt(layer, "the node at %d lies in two pieces", at)
	}
	var first error
	for _, w := range ways {
		n, err := f.readNode(w, at, level)
		if err == nil {
			f.remember(at, n)
			return n, nil
		}
		if first == nil {
			first = err
		}
		if _, damaged := errors.AsType[*fsread.CorruptError](err); !damaged {
			return nil, err
		}
	}
	return nil, first
}

func (f *FS) remember(at uint64, n *node) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.nodes) >= maxNodes {
		for k := range f.nodes { // any one
			delete(f.nodes, k)
			break
		}
	}
	f.nodes[at] = n
}

func (f *FS) readNode(w way, at uint64, level int) (*node, error) {
	b := make([]byte, f.node)
	if err := w.read(b); err != nil {
		return nil, err
	}
	if !sound(f.sum, b) {
		return nil, fsread.Corrupt(layer, "the checksum of the node at %d is wrong", at)
	}
	n := &node{raw: b, level: int(b[100])}
	items := int64(le.Uint32(b[96:]))
	size := int64(itemSize)
	if n.level > 0 {
		size = pointerSize
	}
	if le.Uint64(b[48:]) != at || n.level != level || items > (f.node-headerSize)/size || items == 0 && level > 0 {
		return nil, fsread.Corrupt(layer, "the node at %d says that it is at %d, of level %d, with %d items; level %d was expected", at, le.Uint64(b[48:]), n.level, items, level)
	}
	n.n = int(items)
	for i := 1; i < n.n; i++ {
		if !n.key(i - 1).less(n.key(i)) {
			return nil, fsread.Corrupt(layer, "the node at %d is not in order", at)
		}
	}
	return n, nil
}

// step is a node on the way to an item, and where in it the way goes on.
type step struct {
	n *node
	i int
}

// each calls do for the items from a key on, in order, until it returns false. The
// data is valid until do returns. Of an object that the log changed there are its items
// only.
func (f *FS) each(r root, from key, do func(key, []byte) (bool, error)) error {
	if items, ok := f.newer.of(r.tree, from.object); ok {
		n, _ := slices.BinarySearchFunc(items, from, func(i item, k key) int { return i.k.compare(k) })
		for _, i := range items[n:] {
			if more, err := do(i.k, i.data); err != nil || !more {
				return err
			}
		}
		return nil
	}
	if r.level > maxLevel {
		return fsread.Corrupt(layer, "tree %d has %d levels", r.tree, r.level)
	}
	path, err := f.descend(nil, r.at, r.level, from)
	if err != nil {
		return err
	}
	last := from
	for {
		leaf := &path[len(path)-1]
		for ; leaf.i < leaf.n.n; leaf.i++ {
			k := leaf.n.key(leaf.i)
			if k.less(last) {
				return fsread.Corrupt(layer, "tree %d is not in order", r.tree)
			}
			last = k
			data, ok := leaf.n.data(leaf.i)
			if !ok {
				return fsread.Corrupt(layer, "an item of tree %d lies outside of its node", r.tree)
			}
			if more, err := do(k, data); err != nil || !more {
				return err
			}
		}
		path = path[:len(path)-1]
		for len(path) > 0 && path[len(path)-1].i+1 >= path[len(path)-1].n.n {
			path = path[:len(path)-1]
		}
		if len(path) == 0 {
			return nil
		}
		up := &path[len(path)-1]
		up.i++
		if path, err = f.descend(path, up.n.child(up.i), up.n.level-1, from); err != nil {
			return err
		}
	}
}

// descend goes down to the leaf with the first item from a key on.
func (f *FS) descend(path []step, at uint64, level int, from key) ([]step, error) {
	for {
		n, err := f.load(at, level)
		if err != nil {
			return nil, err
		}
		i := sort.Search(n.n, func(i int) bool { return !n.key(i).less(from) })
		if level == 0 {
			return append(path, step{n, i}), nil
		}
		if i == n.n || from.less(n.key(i)) {
			i = max(0, i-1)
		}
		path = append(path, step{n, i})
		at, level = n.child(i), level-1
	}
}

// find gives the item with exactly this key; nil: there is none.
func (f *FS) find(r root, want key) (data []byte, err error) {
	err = f.each(r, want, func(k key, b []byte) (bool, error) {
		if k == want {
			data = b
		}
		return false, nil
	})
	return data, err
}

// before gives the last item of an object and type at or before an offset.
func (f *FS) before(r root, want key) (found key, data []byte, ok bool, err error) {
	if r.level > maxLevel {
		return key{}, nil, false, fsread.Corrupt(layer, "tree %d has %d levels", r.tree, r.level)
	}
	if items, ok := f.newer.of(r.tree, want.object); ok {
		n, exact := slices.BinarySearchFunc(items, want, func(i item, k key) int { return i.k.compare(k) })
		if !exact {
			n--
		}
		if n < 0 || items[n].k.kind != want.kind {
			return key{}, nil, false, nil
		}
		return items[n].k, items[n].data, true, nil
	}
	at, level := r.at, r.level
	for {
		n, err := f.load(at, level)
		if err != nil {
			return key{}, nil, false, err
		}
		i := sort.Search(n.n, func(i int) bool { return want.less(n.key(i)) }) - 1
		if i < 0 {
			return key{}, nil, false, nil
		}
		if level > 0 {
			at, level = n.child(i), level-1
			continue
		}
		found = n.key(i)
		if found.object != want.object || found.kind != want.kind {
			return key{}, nil, false, nil
		}
		if data, ok = n.data(i); !ok {
			return key{}, nil, false, fsread.Corrupt(layer, "an item of tree %d lies outside of its node", r.tree)
		}
		return found, data, true, nil
	}
}

// tree finds the root of a tree of files.
func (f *FS) tree(id uint64) (root, error) {
	f.mu.Lock()
	r, ok := f.roots[id]
	f.mu.Unlock()
	if ok {
		return r, nil
	}
	_, data, ok, err := f.before(f.root, key{object: id, kind: itemRoot, offset: ^uint64(0)})
	if err != nil {
		return root{}, err
	}
	if !ok || len(data) < 239 {
		return root{}, fsread.Corrupt(layer, "the subvolume %d has no tree", id)
	}
	r = root{tree: id, at: le.Uint64(data[176:]), level: int(data[238])}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.roots) > 1024 {
		clear(f.roots)
	}
	f.roots[id] = r
	return r, nil
}
