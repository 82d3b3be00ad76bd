package simdisk

import (
	"errors"
	"io/fs"
	"syscall"
)

// file is an open file of one process.
type file struct {
	p      *Process
	name   string
	ino    uint64
	pos    int64
	write  bool
	closed bool
}

// enter begins a call; the caller unlocks.
func (f *file) enter(changing bool) error {
	err := f.p.enter(changing)
	if f.closed {
		return fs.ErrClosed
	}
	return err
}

// ReadAt implements io.ReaderAt.
func (f *file) ReadAt(p []byte, off int64) (int, error) {
	err := f.enter(false)
	defer f.p.d.mu.Unlock()
	if err == nil && off < 0 {
		err = errNegative
	}
	if err != nil {
		return 0, fail("read", f.name, err)
	}
	if len(p) == 0 {
		return 0, nil
	}
	return f.p.d.live.get(f.ino).readAt(p, off)
}

// WriteAt implements io.WriterAt.
func (f *file) WriteAt(p []byte, off int64) (int, error) {
	err := f.enter(true)
	defer f.p.d.mu.Unlock()
	if err == nil && off < 0 {
		err = errNegative
	}
	n := 0
	if err == nil {
		n, err = f.put(p, off)
	}
	return n, fail("write", f.name, err)
}

// Write implements io.Writer.
func (f *file) Write(p []byte) (int, error) {
	err := f.enter(true)
	defer f.p.d.mu.Unlock()
	n := 0
	if err == nil {
		n, err = f.put(p, f.pos)
		f.pos += int64(n)
	}
	return n, fail("write", f.name, err)
}

// put writes as much as fits on the disk.
func (f *file) put(p []byte, off int64) (int, error) {
	d := f.p.d
	if !f.write {
		return 0, syscall.EBADF
	}
	if len(p) == 0 {
		return 0, nil
	}
	n := d.live.edit(f.ino)
	fits, err := len(p), error(nil)
	if d.capacity > 0 {
		fits = d.fits(n, off, len(p))
		if fits < len(p) {
			err = syscall.ENOSPC
		}
	}
	before := n.newPages(off, fits)
	n.writeAt(p[:fits], off)
	d.used += before
	n.mtime = d.now
	d.dirty[f.ino] = struct{}{}
	return fits, err
}

// newPages is the space that a write takes which was free before.
func (n *node) newPages(off int64, length int) int64 {
	var sum int64
	if length == 0 {
		return 0
	}
	for i := off / pageSize; i <= (off+int64(length)-1)/pageSize; i++ {
		if n.page(int(i)) == nil {
			sum += pageSize
		}
	}
	return sum
}

// fits is how many of the bytes there is room for.
func (d *Disk) fits(n *node, off int64, length int) int {
	free := max(0, d.capacity-d.used)
	done := 0
	for done < length {
		at := off + int64(done)
		if n.page(int(at/pageSize)) == nil {
			if free < pageSize {
				break
			}
			free -= pageSize
		}
		done += int(pageSize - at%pageSize)
	}
	return min(done, length)
}

// Truncate implements [vfs.File].
func (f *file) Truncate(size int64) error {
	err := f.enter(true)
	defer f.p.d.mu.Unlock()
	if err == nil && (size < 0 || !f.write) {
		err = syscall.EINVAL
	}
	if err != nil {
		return fail("truncate", f.name, err)
	}
	d := f.p.d
	n := d.live.edit(f.ino)
	d.used -= n.allocated()
	n.truncate(size)
	d.used += n.allocated()
	n.mtime = d.now
	d.dirty[f.ino] = struct{}{}
	return nil
}

// Size implements [vfs.File].
func (f *file) Size() (int64, error) {
	err := f.enter(false)
	defer f.p.d.mu.Unlock()
	if err != nil {
		return 0, fail("stat", f.name, err)
	}
	return f.p.d.live.get(f.ino).size, nil
}

// Sync implements [vfs.File].
func (f *file) Sync() error {
	err := f.enter(true)
	defer f.p.d.mu.Unlock()
	if err != nil {
		return fail("sync", f.name, err)
	}
	f.p.d.settleData(f.ino)
	return nil
}

// StartWriteback implements [vfs.File]. Any page may be on disk at any time
// here, so there is nothing to begin.
func (f *file) StartWriteback() {}

// Close implements [vfs.File]. It works after a power cut and a kill too, so that
// deferred calls do not hide the real error.
func (f *file) Close() error {
	d := f.p.d
	d.mu.Lock()
	defer d.mu.Unlock()
	if f.closed {
		return fail("close", f.name, fs.ErrClosed)
	}
	f.closed = true
	if d.opens[f.ino]--; d.opens[f.ino] == 0 {
		delete(d.opens, f.ino)
		if _, ok := d.orphans[f.ino]; ok {
			d.free(f.ino)
		}
	}
	return nil
}

var errNegative = errors.New("negative offset")
