package simdisk

import (
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-backup/holdfast/internal/vfs"
)

const (
	nameCost = 512 // bytes of capacity that a file or directory takes besides its pages
	nameMax  = 255
)

// Process is one user of a disk.
type Process struct {
	d      *Disk
	killed bool
}

// Process makes another user of the disk.
func (d *Disk) Process() *Process { return &Process{d: d} }

// Kill ends the process as kill -9 does: its locks are free, its later calls
// fail with ErrKilled, and what it wrote is in the page cache.
func (p *Process) Kill() {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	p.killed = true
	p.d.dropLocks(func(l *lock) bool { return l.p == p })
}

// Open implements [vfs.FS].
func (p *Process) Open(name string) (vfs.File, error) { return p.open(name, false) }

// OpenWrite is Open for reading and writing. It is not in [vfs.FS] because a
// datastore changes no file in place; others do.
func (p *Process) OpenWrite(name string) (vfs.File, error) { return p.open(name, true) }

func (p *Process) open(name string, write bool) (vfs.File, error) {
	d := p.d
	err := p.enter(false)
	defer d.mu.Unlock()
	if err != nil {
		return nil, fail("open", name, err)
	}
	n, err := d.resolve(name)
	if err == nil && !n.mode.IsRegular() {
		err = vfs.ErrNotRegular
	}
	if err != nil {
		return nil, fail("open", name, err)
	}
	d.opens[n.ino]++
	return &file{p: p, name: name, ino: n.ino, write: write}, nil
}

// Create implements [vfs.FS].
func (p *Process) Create(name string, perm fs.FileMode) (vfs.File, error) {
	d := p.d
	err := p.enter(true)
	defer d.mu.Unlock()
	var ino uint64
	if err == nil {
		ino, err = d.make(name, perm.Perm())
	}
	if err != nil {
		return nil, fail("create", name, err)
	}
	d.opens[ino]++
	return &file{p: p, name: name, ino: ino, write: true}, nil
}

// Mkdir implements [vfs.FS].
func (p *Process) Mkdir(name string, perm fs.FileMode) error {
	err := p.enter(true)
	defer p.d.mu.Unlock()
	if err == nil {
		_, err = p.d.make(name, dirMode(perm))
	}
	return fail("mkdir", name, err)
}

func (d *Disk) make(name string, mode fs.FileMode) (uint64, error) {
	dir, base, err := d.parent(name)
	if err != nil {
		return 0, err
	}
	if _, ok := dir.lookup(base); ok {
		return 0, syscall.EEXIST
	}
	if err := d.room(nameCost); err != nil {
		return 0, err
	}
	d.used += nameCost
	o := &op{ino: d.newNode(mode), to: key{dir.ino, base}, dir: mode.IsDir()}
	d.record(o)
	o.apply(&d.live)
	return o.ino, nil
}

// Rename implements [vfs.FS].
func (p *Process) Rename(oldName, newName string) error {
	err := p.enter(true)
	defer p.d.mu.Unlock()
	if err == nil {
		err = p.d.rename(oldName, newName)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: oldName, New: newName, Err: err}
	}
	return nil
}

func (d *Disk) rename(oldName, newName string) error {
	oldDir, oldBase, err := d.parent(oldName)
	if err != nil {
		return err
	}
	newDir, newBase, err := d.parent(newName)
	if err != nil {
		return err
	}
	ino, ok := oldDir.lookup(oldBase)
	if !ok {
		return syscall.ENOENT
	}
	n := d.live.get(ino)
	switch {
	case strings.HasPrefix(newName, oldName+"/"):
		return syscall.EINVAL
	case strings.HasPrefix(oldName, newName+"/"):
		return syscall.ENOTEMPTY
	}
	old, exists := newDir.lookup(newBase)
	if exists {
		target := d.live.get(old)
		switch {
		case old == ino:
			return nil
		case n.mode.IsDir() && !target.mode.IsDir():
			return syscall.ENOTDIR
		case !n.mode.IsDir() && target.mode.IsDir():
			return syscall.EISDIR
		case len(target.entries) > 0:
			return syscall.ENOTEMPTY
		}
	}
	o := &op{ino: ino, from: key{oldDir.ino, oldBase}, to: key{newDir.ino, newBase}, old: old, dir: n.mode.IsDir()}
	o.deps = d.makings(newName)
	d.record(o)
	d.applyLive(o, old)
	return nil
}

// Remove implements [vfs.FS].
func (p *Process) Remove(name string) error {
	err := p.enter(true)
	defer p.d.mu.Unlock()
	if err == nil {
		err = p.d.remove(name)
	}
	return fail("remove", name, err)
}

func (d *Disk) remove(name string) error {
	dir, base, err := d.parent(name)
	if err != nil {
		return err
	}
	ino, ok := dir.lookup(base)
	if !ok {
		return syscall.ENOENT
	}
	n := d.live.get(ino)
	if len(n.entries) > 0 {
		return syscall.ENOTEMPTY
	}
	o := &op{ino: ino, from: key{dir.ino, base}, dir: n.mode.IsDir()}
	d.record(o)
	d.applyLive(o, ino)
	return nil
}

// applyLive makes a change that takes the last name of gone (0: of nothing).
func (d *Disk) applyLive(o *op, gone uint64) {
	n := d.live.get(gone)
	o.apply(&d.live)
	if n == nil {
		return
	}
	d.live.put(gone, n)
	d.orphans[gone] = orphan{}
	if d.opens[gone] == 0 {
		d.free(gone)
	}
}

// ReadDir implements [vfs.FS].
func (p *Process) ReadDir(name string) ([]vfs.DirEntry, error) {
	d := p.d
	err := p.enter(false)
	defer d.mu.Unlock()
	if err != nil {
		return nil, fail("list", name, err)
	}
	n, err := d.directory(name)
	if err != nil {
		return nil, fail("list", name, err)
	}
	list := make([]vfs.DirEntry, len(n.entries))
	for i, e := range n.entries {
		list[i] = vfs.DirEntry{Name: e.name, Type: d.live.get(e.ino).mode.Type()}
	}
	return list, nil
}

// Lstat implements [vfs.FS].
func (p *Process) Lstat(name string) (vfs.Info, error) {
	err := p.enter(false)
	defer p.d.mu.Unlock()
	if err != nil {
		return vfs.Info{}, fail("lstat", name, err)
	}
	n, err := p.d.resolve(name)
	if err != nil {
		return vfs.Info{}, fail("lstat", name, err)
	}
	return vfs.Info{
		Mode: n.mode, Size: n.size, Inode: n.ino, Blocks: n.allocated(),
		Atime: time.Unix(0, n.atime).UTC(), Mtime: time.Unix(0, n.mtime).UTC(),
	}, nil
}

// Touch implements [vfs.FS].
func (p *Process) Touch(name string) error {
	err := p.enter(true)
	defer p.d.mu.Unlock()
	if err != nil {
		return fail("touch", name, err)
	}
	n, err := p.d.resolve(name)
	if err != nil {
		return fail("touch", name, err)
	}
	p.d.live.edit(n.ino).atime = p.d.now
	p.d.dirty[n.ino] = struct{}{}
	return nil
}

// SyncDir implements [vfs.FS].
func (p *Process) SyncDir(name string) error {
	err := p.enter(true)
	defer p.d.mu.Unlock()
	if err != nil {
		return fail("sync directory", name, err)
	}
	n, err := p.d.directory(name)
	if err != nil {
		return fail("sync directory", name, err)
	}
	p.d.settle(n.ino)
	return nil
}

// SyncFS implements [vfs.FS].
func (p *Process) SyncFS() error {
	err := p.enter(true)
	defer p.d.mu.Unlock()
	if err != nil {
		return fail("sync file system", ".", err)
	}
	p.d.settleAll()
	return nil
}

// WillNeed implements [vfs.FS]. It does nothing and counts as nothing.
func (p *Process) WillNeed(string) {}

// Now implements [vfs.FS]. It works without power: it is only a number.
func (p *Process) Now() time.Time {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	return time.Unix(0, p.d.now).UTC()
}

// Usage implements [vfs.FS].
func (p *Process) Usage() (vfs.Usage, error) {
	d := p.d
	err := p.enter(false)
	defer d.mu.Unlock()
	if err != nil {
		return vfs.Usage{}, fail("usage", ".", err)
	}
	total, used := d.capacity, d.used
	if total == 0 {
		total, used = 1<<50, d.measure(rootIno)-nameCost
	}
	return vfs.Usage{Total: uint64(total), Used: uint64(used), Available: uint64(max(0, total-used))}, nil
}

// room says whether so many more bytes fit.
func (d *Disk) room(bytes int64) error {
	if d.capacity > 0 && d.used+bytes > d.capacity {
		return syscall.ENOSPC
	}
	return nil
}

// resolve finds what has a name.
func (d *Disk) resolve(name string) (*node, error) {
	if err := vfs.CheckName(name); err != nil {
		return nil, err
	}
	n := d.live.get(rootIno)
	for name != "." {
		part, rest, more := strings.Cut(name, "/")
		if len(part) > nameMax {
			return nil, syscall.ENAMETOOLONG
		}
		if !n.mode.IsDir() {
			return nil, syscall.ENOTDIR
		}
		ino, ok := n.lookup(part)
		if !ok {
			return nil, syscall.ENOENT
		}
		n = d.live.get(ino)
		if !more {
			break
		}
		name = rest
	}
	return n, nil
}

func (d *Disk) directory(name string) (*node, error) {
	n, err := d.resolve(name)
	if err == nil && !n.mode.IsDir() {
		return nil, syscall.ENOTDIR
	}
	return n, err
}

// parent finds the directory of a name that is about to change.
func (d *Disk) parent(name string) (*node, string, error) {
	if err := vfs.CheckName(name); err != nil {
		return nil, "", err
	}
	if name == "." {
		return nil, "", fs.ErrInvalid
	}
	dir, base := vfs.Split(name)
	n, err := d.directory(dir)
	if err == nil && len(base) > nameMax {
		err = syscall.ENAMETOOLONG
	}
	return n, base, err
}

func dirMode(perm fs.FileMode) fs.FileMode { return fs.ModeDir | perm.Perm() }

func fail(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}
