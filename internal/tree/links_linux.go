package tree

import (
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// links remembers files with several names until all of them have been met.
type links struct{ m map[fileID]*linked }

// linked is a file whose first name has been met. The offset is known when it
// has been written.
type linked struct {
	dir    *dir
	name   string
	offset int64  // of its entry; 0: not written
	waits  bool   // to be written
	left   uint64 // names that may still come
}

// first notes the first name of a file, met again or not.
func (l *links) first(it *item) *linked {
	if it.links < 2 {
		return nil
	}
	t := &linked{dir: it.dir, name: it.entry.Name, left: it.links - 1}
	if l.m == nil {
		l.m = map[fileID]*linked{}
	}
	l.m[it.id] = t
	return t
}

// again returns the file if one of its names has been met before.
func (l *links) again(it *item) *linked {
	if it.links < 2 {
		return nil
	}
	t := l.m[it.id]
	if t == nil {
		return nil
	}
	if t.left--; t.left == 0 {
		delete(l.m, it.id)
	}
	return t
}

// met decides what a file is that has just been met: the first of its names, or
// a further one of a file that is or will be in the archive.
func (l *links) met(it *item) {
	t := l.again(it)
	switch {
	case t == nil:
		it.first = l.first(it)
	case t.offset == 0 && !t.waits: // the name before could not be had
		t.dir, t.name = it.dir, it.entry.Name
		it.first = t
	case len(t.target()) <= pxar.MaxName: // else no link can name it
		it.target = t
	}
}

// target is the path that a hard link to the file holds.
func (t *linked) target() string { return strings.TrimPrefix(t.dir.path(t.name), "/") }
