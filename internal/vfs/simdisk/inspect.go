package simdisk

import (
	"path"
	"syscall"
)

// These methods look at the disk from outside the machine: they work without
// power and count as nothing.

// Files lists the regular files, sorted by directory and name.
func (d *Disk) Files() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.files(nil, ".", d.live.get(rootIno))
}

func (d *Disk) files(list []string, name string, n *node) []string {
	if n.mode.IsRegular() {
		return append(list, name)
	}
	for _, e := range n.entries {
		list = d.files(list, path.Join(name, e.name), d.live.get(e.ino))
	}
	return list
}

// Content is the whole content of a file as callers see it.
func (d *Disk) Content(name string) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.file(name)
	if err != nil {
		return nil, fail("read", name, err)
	}
	b := make([]byte, n.size)
	_, _ = n.readAt(b, 0) // an empty file ends at once
	return b, nil
}

// Corrupt replaces the content of a file by what change makes of it, on the
// platters and in the page cache: bit rot, or a hand in the wrong place. Times
// stay.
func (d *Disk) Corrupt(name string, change func([]byte) []byte) error {
	b, err := d.Content(name)
	if err != nil {
		return err
	}
	b = change(b)
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.file(name)
	if err != nil {
		return fail("corrupt", name, err)
	}
	n = d.live.edit(n.ino)
	d.used -= n.allocated()
	n.truncate(0)
	n.writeAt(b, 0)
	d.used += n.allocated()
	if safe := d.durable.edit(n.ino); safe != nil {
		safe.take(n)
	}
	return nil
}

func (d *Disk) file(name string) (*node, error) {
	n, err := d.resolve(name)
	if err == nil && !n.mode.IsRegular() {
		err = syscall.EISDIR
	}
	return n, err
}

// Unsynced counts directory changes and files that a crash may lose.
func (d *Disk) Unsynced() (entries, files int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.pending), len(d.dirty)
}
