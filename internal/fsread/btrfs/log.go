package btrfs

import (
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// Trees, and items of the log.
const (
	treeLog = 1<<64 - 6 // the object of the roots of logs

	itemRef      = 12
	itemRefLong  = 13
	itemDirRange = 72
)

// maxLog bounds the bytes of items that applying the log keeps: those of the log, and all of
// the files and directories that it changes.
const maxLog = 64 << 20

// item is an item of a tree.
type item struct {
	k    key
	data []byte
}

// changes are objects that the log changes, by tree, with all their items.
type changes map[uint64]map[uint64][]item

// of gives the items of an object, if the log changes it.
func (c changes) of(tree, object uint64) ([]item, bool) {
	items, ok := c[tree][object]
	return items, ok
}

// applyLog applies what an fsync wrote after the last commit, in memory. What it cannot
// apply as a whole it leaves, and a notice says so: what was committed is a state of its own.
func (f *FS) applyLog(b []byte) error {
	r := root{tree: treeLog, at: le.Uint64(b[96:]), level: int(b[200])}
	if r.at == 0 {
		return nil
	}
	all, err := f.logs(r, le.Uint64(b[72:]))
	_, unknown := errors.AsType[*fsread.UnsupportedError](err)
	switch {
	case unknown || fsread.IsCorrupt(err):
		f.about.Notices = append(f.about.Notices, fmt.Sprintf("has a log, from calls of fsync shortly before the backup; it is not applied (%v)", err))
		return nil
	case err != nil:
		return err
	}
	f.newer = all
	f.about.Notices = append(f.about.Notices, "has a log, from calls of fsync shortly before the backup; it is applied")
	return nil
}

// logs reads the logs of all subvolumes, whose roots are in a tree that was written for the
// transaction behind the last one.
func (f *FS) logs(r root, generation uint64) (changes, error) {
	if r.level > maxLevel {
		return nil, fsread.Corrupt(layer, "the log has %d levels", r.level)
	}
	n, err := f.load(r.at, r.level)
	if err != nil {
		return nil, err
	}
	if g := le.Uint64(n.raw[80:]); g != generation+1 {
		return nil, fsread.Corrupt(layer, "the log is of generation %d, the last commit of %d", g, generation)
	}
	all, room := changes{}, maxLog
	err = f.each(r, key{object: treeLog, kind: itemRoot}, func(k key, data []byte) (bool, error) {
		if k.object != treeLog || k.kind != itemRoot {
			return false, nil
		}
		if len(data) < 239 {
			return false, fsread.Corrupt(layer, "the root of the log of subvolume %d has %d bytes", k.offset, len(data))
		}
		if _, _, there, err := f.before(f.root, key{object: k.offset, kind: itemRoot, offset: ^uint64(0)}); err != nil || !there {
			return true, err // the subvolume was removed
		}
		base, err := f.tree(k.offset)
		if err != nil {
			return false, err
		}
		l := &replay{f: f, base: base, objects: map[uint64]*object{}, room: room}
		if err := l.read(root{tree: treeLog, at: le.Uint64(data[176:]), level: int(data[238])}); err != nil {
			return false, err
		}
		if err := l.apply(); err != nil {
			return false, err
		}
		all[k.offset], room = l.result(), l.room
		return true, nil
	})
	return all, err
}

// read reads the log of one subvolume.
func (l *replay) read(r root) error {
	return l.f.each(r, key{}, func(k key, data []byte) (bool, error) {
		switch k.kind {
		case itemInode, itemRef, itemRefLong, itemXattr, itemDirIndex, itemDirRange, itemExtent:
			l.log = append(l.log, item{k, data})
			return true, l.take(data)
		}
		return true, nil // checksums, and names by their hashes, which are there by their index too
	})
}

// take takes room for an item.
func (l *replay) take(data []byte) error {
	if l.room -= len(data) + 64; l.room < 0 {
		return fsread.Unsupported(layer, "a log with more than %d bytes of changes", maxLog)
	}
	return nil
}
