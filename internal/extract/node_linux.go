package extract

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"

	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"golang.org/x/sys/unix"
)

// maxOpen is how many directories from the target to the current entry have a
// descriptor. Those above are opened again on the way back.
const maxOpen = 256

// maxLingering is how many directories may wait for files in them after they were
// left; each has a descriptor.
const maxLingering = 128

// dir is a directory of the target that is not complete yet.
type dir struct {
	run     *run
	parent  *dir // nil: the target
	name    string
	fd      int // -1: failed, or closed for a while
	dev     uint64
	ino     uint64
	volume  *volume
	meta    pxar.Metadata
	skip    filemeta.Set
	made    bool   // by this run: nobody else gets in, and files in it get no ACL
	owned   bool   // files in it get the owners of this process
	keep    bool   // its metadata stays
	undo    func() // gives an older directory what it had; nil: nothing was taken
	failed  bool   // it could not be made, and nothing in it
	pending atomic.Int32
	last    string   // name of the last entry
	names   []uint64 // hashes of all names, for Delete
}

// volume is a file system of the target.
type volume struct {
	*filemeta.FS
	nameless atomic.Bool // files without a name are not to be had
}

// pathOf is the path in the archive of something in d, or of d itself.
func (d *dir) pathOf(name string) string {
	var parts []string
	if name != "" {
		parts = append(parts, name)
	}
	for ; d.parent != nil; d = d.parent {
		parts = append(parts, d.name)
	}
	var b strings.Builder
	for i := len(parts) - 1; i >= 0; i-- {
		b.WriteByte('/')
		b.WriteString(parts[i])
	}
	if b.Len() == 0 {
		return "/"
	}
	return b.String()
}

// look finds out about a directory that was just opened.
func (d *dir) look(made bool) error {
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		return err
	}
	d.dev, d.ino = uint64(st.Dev), st.Ino //nolint:unconvert // narrower on some machines
	self := d.run.self.owners
	mine := st.Uid == self.UID
	d.made = made && mine // else somebody put another one in its place
	d.owned = d.made && st.Gid == self.GID
	if d.parent != nil && d.parent.dev == d.dev {
		d.volume = d.parent.volume
	} else {
		f, err := filemeta.Of(d.fd)
		if err != nil {
			return err
		}
		d.volume = &volume{FS: f}
		d.volume.nameless.Store(d.run.o.named)
	}
	return nil
}

// unlock lets files be made in an older directory: its owner may have taken the
// permission from himself, or it is immutable.
func (d *dir) unlock() error {
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		return err
	}
	freeze, frozen := d.volume.Thaw(d.fd)
	mode, self := st.Mode&0o7777, d.run.self.owners
	locked := self.UID != 0 && st.Uid == self.UID && mode&0o700 != 0o700
	d.undo = func() {
		if locked {
			_ = unix.Fchmod(d.fd, mode) // it could be changed before
		}
		if frozen {
			freeze()
		}
	}
	if locked {
		return unix.Fchmod(d.fd, mode|0o700)
	}
	return nil
}

// dropDefaultACL takes away what a new directory got from one that is not ours,
// or its files would get it too.
func (d *dir) dropDefaultACL() {
	if d.made {
		_ = unix.Fremovexattr(d.fd, "system.posix_acl_default") // most have none
	}
}

func (r *run) push(d *dir) {
	r.stack = append(r.stack, d)
}

func (r *run) pop() *dir {
	d := r.stack[len(r.stack)-1]
	r.stack = r.stack[:len(r.stack)-1]
	return d
}

// enter makes a directory, or goes into one that exists.
func (r *run) enter(parent *dir, e *pxar.Entry) error {
	d := &dir{run: r, parent: parent, name: e.Name, fd: -1, meta: e.Metadata}
	d.skip = r.prepare(&d.meta, d, "")
	err := d.open()
	if err == nil && !d.made {
		err = d.unlock()
	}
	if err != nil {
		d.close()
		d.failed = true
		r.push(d)
		return r.problem(&r.tally, parent, e.Name, e.Kind, 0, err)
	}
	if r.o.InPlace && !d.made {
		r.same.add(e.Kind, 0)
	} else {
		r.made.add(e.Kind, 0)
	}
	d.pending.Store(1)
	parent.pending.Add(1)
	r.push(d)
	if r.crowded() {
		// Files that are on their way need the descriptor.
		if err := r.drain(); err != nil {
			return err
		}
		r.park()
	}
	return nil
}

// crowded reports whether too many directories are open, park closes one.
func (r *run) crowded() bool { return len(r.stack)-r.opened > maxOpen }

func (r *run) park() {
	r.stack[r.opened].close()
	r.opened++
}

// unpark makes sure that the directory that is left to is open; child is a
// descriptor of one in it.
func (r *run) unpark(child int) error {
	if n := len(r.stack); n > 0 && r.stack[n-1].fd < 0 {
		r.opened--
		return r.stack[n-1].reopen(child)
	}
	return nil
}

func (d *dir) open() error {
	made := true
	err := unix.Mkdirat(d.parent.fd, d.name, 0o700)
	if errors.Is(err, unix.EEXIST) {
		made = false
		err = d.takeOver()
		if errors.Is(err, errGone) {
			made = true
			err = unix.Mkdirat(d.parent.fd, d.name, 0o700)
		}
	}
	if err != nil {
		return err
	}
	d.fd, err = retry(func() (int, error) {
		return unix.Openat(d.parent.fd, d.name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return err
	}
	if err := d.look(made); err != nil {
		return err
	}
	if !d.parent.made {
		d.dropDefaultACL()
	}
	return nil
}

// errGone says that what was in the way of a directory is not any longer.
var errGone = errors.New("removed")

// takeOver decides whether what has the name of d may become d.
func (d *dir) takeOver() error {
	r := d.run
	var st unix.Stat_t
	if err := unix.Fstatat(d.parent.fd, d.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	switch {
	case isDir && (r.o.InPlace || r.o.Existing&Dirs != 0):
		return nil
	case isDir:
		return ErrExists
	case r.o.InPlace:
		if err := unix.Unlinkat(d.parent.fd, d.name, 0); err != nil {
			return err
		}
		return errGone
	}
	return fmt.Errorf("%w, and is no directory", ErrExists)
}

// leave ends the directory whose entries have all been read.
func (r *run) leave() error {
	if len(r.stack) == 0 {
		return fmt.Errorf("%w: an end too many", pxar.ErrFormat)
	}
	d := r.pop()
	if d.failed {
		return nil
	}
	if r.o.Delete {
		r.purge(d)
	}
	err := r.unpark(d.fd)
	waiting := r.lingering.Add(1)
	d.release()
	if err == nil && waiting > maxLingering {
		err = r.drain()
	}
	return err
}

// reopen opens a directory again from one that is in it.
func (d *dir) reopen(child int) error {
	fd, err := retry(func() (int, error) {
		return unix.Openat(child, "..", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return &fs.PathError{Op: "open again", Path: d.pathOf(""), Err: err}
	}
	d.fd = fd
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && (uint64(st.Dev) != d.dev || st.Ino != d.ino) { //nolint:unconvert // narrower on some machines
		err = errMoved
	}
	if err != nil {
		d.close()
		return &fs.PathError{Op: "open again", Path: d.pathOf(""), Err: err}
	}
	return nil
}

// errMoved is met where somebody works in the target too.
var errMoved = errors.New("a directory in it was moved away meanwhile")

// release says that one of those who need d is done with it. The last one
// completes it.
func (d *dir) release() {
	for d != nil && !d.failed && d.pending.Add(-1) == 0 {
		if d.undo != nil && d.fd >= 0 {
			d.undo()
		}
		if d.run.ctx.Err() == nil {
			d.complete()
		}
		d.close()
		d.run.lingering.Add(-1)
		d = d.parent
	}
}

// complete sets the metadata of a directory in which everything is done.
func (d *dir) complete() {
	r := d.run
	if d.keep {
		if d.made { // nobody says what else it should have
			_ = unix.Fchmod(d.fd, r.self.defaultMode(unix.S_IFDIR))
		}
		return
	}
	how := r.how(d.skip, d, "")
	if r.o.InPlace && !d.made {
		how.Exact = true
		if d.same() {
			return
		}
		r.mu.Lock()
		r.total.Changed.Dirs++
		r.mu.Unlock()
	}
	if d.undo != nil {
		_ = d.unlock() // extended attributes need the permission too
	}
	if d.made {
		how.Skip &^= filemeta.SetOf(filemeta.Mode)
	}
	how.Inherited = !d.made || d.parent == nil || !d.parent.made
	if d.owned {
		how.Made = &r.self.owners
	}
	d.volume.Apply(d.fd, &d.meta, how)
}

func (d *dir) close() {
	if d.fd >= 0 {
		_ = unix.Close(d.fd) // nothing was written through it
		d.fd = -1
	}
}
