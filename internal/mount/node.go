package mount

import "github.com/holdfast-backup/holdfast/internal/format/pxar"

// node is the number of an inode; see the package comment.
type node uint64

const root node = 1

func dirNode(end int64) node      { return node(end) << 1 }
func otherNode(offset int64) node { return node(offset)<<1 | 1 }

// isDir reports whether n is a directory: pos is where it ends, or else the
// offset of the entry.
func (n node) isDir() bool { return n == root || n&1 == 0 }
func (n node) pos() int64  { return int64(n >> 1) }

// nodeOf is the number of an entry of a directory that is no hard link.
func nodeOf(e *pxar.Entry) node {
	if e.Kind == pxar.Directory {
		return dirNode(e.EndPos)
	}
	return otherNode(e.Offset)
}
