package simdisk

import (
	"io/fs"
	"slices"
	"strings"
)

// An owner marks what a tree may change in place; everything else is shared
// with other trees and copied first.
type owner struct{ _ byte }

const leafSize = 64

// tree is a table of nodes by inode number. It forks in the time it takes to
// copy one pointer per 64 nodes.
type tree struct {
	own    *owner
	leaves []*leaf
}

type leaf struct {
	own   *owner
	nodes [leafSize]*node
}

// node is a file or a directory. Pages are immutable: a write puts new ones in
// their place, so that any number of nodes may share them.
type node struct {
	own          *owner
	ino          uint64
	mode         fs.FileMode
	atime, mtime int64 // nanoseconds since 1970

	entries []entry // of a directory, sorted by name

	size   int64
	pages  [][]byte // each up to pageSize; what is missing reads as zeros
	shared bool     // the slice pages (not only its elements) has another user
	mid    []version
}

type entry struct {
	name string
	ino  uint64
}

// version is a content that a page had between the last sync and now.
type version struct {
	page int
	data []byte
}

func newTree() tree { return tree{own: new(owner)} }

// fork returns an independent copy.
func (t *tree) fork() tree {
	t.own = new(owner)
	return tree{own: new(owner), leaves: slices.Clone(t.leaves)}
}

func (t *tree) get(ino uint64) *node {
	i := ino / leafSize
	if i >= uint64(len(t.leaves)) || t.leaves[i] == nil {
		return nil
	}
	return t.leaves[i].nodes[ino%leafSize]
}

func (t *tree) put(ino uint64, n *node) {
	i := ino / leafSize
	for i >= uint64(len(t.leaves)) {
		t.leaves = append(t.leaves, nil)
	}
	l := t.leaves[i]
	switch {
	case l == nil:
		l = &leaf{own: t.own}
	case l.own != t.own:
		l = &leaf{own: t.own, nodes: l.nodes}
	}
	t.leaves[i] = l
	l.nodes[ino%leafSize] = n
}

func (t *tree) drop(ino uint64) {
	if t.get(ino) != nil {
		t.put(ino, nil)
	}
}

// edit returns the node for changing, or nil.
func (t *tree) edit(ino uint64) *node {
	n := t.get(ino)
	if n == nil || n.own == t.own {
		return n
	}
	c := *n
	c.own = t.own
	c.shared = true
	c.entries = slices.Clone(n.entries)
	t.put(ino, &c)
	return &c
}

func (n *node) find(name string) (int, bool) {
	return slices.BinarySearchFunc(n.entries, name, func(e entry, name string) int { return strings.Compare(e.name, name) })
}

func (n *node) lookup(name string) (uint64, bool) {
	i, ok := n.find(name)
	if !ok {
		return 0, false
	}
	return n.entries[i].ino, true
}

func (n *node) link(name string, ino uint64) {
	i, ok := n.find(name)
	if ok {
		n.entries[i].ino = ino
		return
	}
	n.entries = slices.Insert(n.entries, i, entry{name, ino})
}

func (n *node) unlink(name string) {
	if i, ok := n.find(name); ok {
		n.entries = slices.Delete(n.entries, i, i+1)
	}
}
