package extract

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"

	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/zero"
	"golang.org/x/sys/unix"
)

const (
	pieceBytes = 256 << 10
	holeBytes  = 32 << 10 // shorter runs of zeros are written
)

// file is a new file that has no name yet, or only a temporary one.
type file struct {
	run   *run
	dir   *dir
	name  string
	meta  pxar.Metadata
	skip  filemeta.Set
	fd    int
	temp  string // "": it has no name
	perms bool   // it has the permissions of meta
	tail  int64  // where what was written ends
}

// newFile makes an empty file for an entry.
func (r *run) newFile(d *dir, e *pxar.Entry) (*file, error) {
	f := &file{run: r, dir: d, name: e.Name, meta: e.Metadata, fd: -1}
	f.skip = r.prepare(&f.meta, d, e.Name) &^ filemeta.SetOf(filemeta.Mode)
	perm := uint32(0o600)
	// Extended attributes need the permission to write, except for root.
	if want := f.meta.Mode & 0o7777; d.made && r.self.sure && want&^(0o777&^r.self.umask) == 0 && len(f.meta.Xattrs) == 0 {
		perm, f.perms = want, true
	}
	if err := f.open(perm); err != nil {
		return nil, err
	}
	if f.meta.Flags != 0 {
		d.volume.Early(f.fd, &f.meta, r.how(f.skip, d, f.name))
	}
	return f, nil
}

func (f *file) open(perm uint32) (err error) {
	d := f.dir
	if !d.volume.nameless.Load() {
		f.fd, err = retry(func() (int, error) {
			return unix.Openat(d.fd, ".", unix.O_WRONLY|unix.O_TMPFILE|unix.O_CLOEXEC, perm)
		})
		if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EINVAL) {
			return err
		}
		d.volume.nameless.Store(true)
	}
	f.temp = f.run.names.next()
	f.fd, err = retry(func() (int, error) {
		return unix.Openat(d.fd, f.temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, perm)
	})
	return err
}

// write writes a part of the content; offsets are a multiple of zero.BlockSize.
// Runs of zeros are left out.
func (f *file) write(data []byte, off int64) (written int64, err error) {
	for len(data) > 0 {
		n, hole := zero.Run(data, holeBytes)
		if !hole {
			if err := pwrite(f.fd, data[:n], off); err != nil {
				return written, err
			}
			written += int64(n)
			f.tail = off + int64(n)
		}
		data, off = data[n:], off+int64(n)
	}
	return written, nil
}

func pwrite(fd int, p []byte, off int64) error {
	for len(p) > 0 {
		n, err := retry(func() (int, error) { return unix.Pwrite(fd, p, off) })
		if err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// finish sets the metadata of a file of this size, and gives it its name.
func (f *file) finish(size int64) error {
	if f.tail < size {
		if err := unix.Ftruncate(f.fd, size); err != nil {
			return err
		}
	}
	r, d := f.run, f.dir
	how := r.how(f.skip|filemeta.SetOf(filemeta.Flags), d, f.name)
	how.Inherited, how.Perms = !d.made, f.perms
	if d.owned {
		how.Made = &r.self.owners
	}
	d.volume.Apply(f.fd, &f.meta, how)
	if err := f.link(); err != nil {
		return err
	}
	if f.meta.Flags != 0 {
		how.Skip = f.skip
		d.volume.Late(f.fd, &f.meta, how) // an immutable file cannot get a name
	}
	return nil
}

// link gives the file its name.
func (f *file) link() error {
	r, d := f.run, f.dir
	if f.temp == "" {
		err := r.names.link(f.fd, d.fd, f.name)
		if !errors.Is(err, unix.EEXIST) {
			return err
		}
		if !r.may(Files) {
			return ErrExists
		}
		temp := r.names.next()
		if err := r.names.link(f.fd, d.fd, temp); err != nil {
			return err
		}
		return r.moveOver(d, temp, f.name)
	}
	temp := f.temp
	if r.may(Files) {
		f.temp = ""
		return r.moveOver(d, temp, f.name)
	}
	err := unix.Renameat2(d.fd, temp, d.fd, f.name, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		if err = unix.Linkat(d.fd, temp, d.fd, f.name, 0); err == nil {
			err = unix.Unlinkat(d.fd, temp, 0)
		} else if !errors.Is(err, unix.EEXIST) {
			// Neither is to be had: who takes the name in between loses.
			var st unix.Stat_t
			if err = unix.Fstatat(d.fd, f.name, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil {
				err = unix.EEXIST
			} else if errors.Is(err, unix.ENOENT) {
				err = unix.Renameat(d.fd, temp, d.fd, f.name)
			}
		}
	}
	switch {
	case errors.Is(err, unix.EEXIST):
		return ErrExists
	case err == nil:
		f.temp = ""
	}
	return err
}

// close closes the file; without its name it is gone.
func (f *file) close() {
	if f.fd >= 0 {
		_ = unix.Close(f.fd) // all calls that write were checked
	}
	if f.temp != "" {
		_ = unix.Unlinkat(f.dir.fd, f.temp, 0) // it is private, and hidden
	}
}

// moveOver renames something to a name that may be taken, by anything but a
// directory.
func (r *run) moveOver(d *dir, temp, name string) error {
	err := unix.Renameat(d.fd, temp, d.fd, name)
	if errors.Is(err, unix.EPERM) {
		for _, n := range []string{temp, name} {
			if freeze, frozen := d.volume.thaw(d.fd, n); frozen {
				defer freeze() // what is replaced may have other names
			}
		}
		err = unix.Renameat(d.fd, temp, d.fd, name)
	}
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTEMPTY) {
		if err = r.makeRoom(d, name); err == nil {
			err = unix.Renameat(d.fd, temp, d.fd, name)
		}
	}
	if err != nil {
		_ = unix.Unlinkat(d.fd, temp, 0) // the error counts
		return err
	}
	// Two names of one file are not renamed to each other.
	_ = unix.Unlinkat(d.fd, temp, 0)
	return nil
}

// makeRoom takes an empty directory out of the way; in place, what is in it too.
func (r *run) makeRoom(d *dir, name string) error {
	if !r.o.InPlace {
		return fmt.Errorf("%w, as a directory", ErrExists)
	}
	err := unix.Unlinkat(d.fd, name, unix.AT_REMOVEDIR)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		if !r.o.Delete {
			return errFull
		}
		return r.removeTree(d, name)
	}
	return err
}

// errFull is why something is not put in the place of a directory.
var errFull = errors.New("a directory that is not empty is in its place")

// large makes a file whose content is read piece by piece.
func (r *run) large(d *dir, e *pxar.Entry) error {
	if err := r.taken(d, e); err != nil {
		return r.problem(&r.tally, d, e.Name, e.Kind, e.Size, err)
	}
	f, err := r.newFile(d, e)
	if err != nil {
		return r.problem(&r.tally, d, e.Name, e.Kind, e.Size, err)
	}
	defer f.close()
	return r.stream(f, e, 0)
}

// taken finds out early that a large file could not get its name.
func (r *run) taken(d *dir, e *pxar.Entry) error {
	if r.may(Files) {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstatat(d.fd, e.Name, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil {
		return ErrExists
	}
	return nil
}

// stream writes the content of a file from off on, and finishes it.
func (r *run) stream(f *file, e *pxar.Entry, off int64) error {
	if r.piece == nil {
		r.piece = make([]byte, pieceBytes)
	}
	for off < e.Size {
		if r.ctx.Err() != nil {
			return context.Cause(r.ctx)
		}
		p := r.piece[:min(pieceBytes, e.Size-off)]
		if err := r.fill(p); err != nil {
			return r.unreadable(f.dir, e, err)
		}
		if _, err := f.write(p, off); err != nil {
			return r.problem(&r.tally, f.dir, e.Name, e.Kind, e.Size, err)
		}
		off += int64(len(p))
		if r.o.Counters != nil {
			r.o.Counters.Bytes.Add(int64(len(p)))
		}
	}
	return r.outcome(f.dir, e, f.finish(e.Size))
}

// temporary makes names of this run, and gives files without a name theirs.
type temporary struct {
	prefix string
	count  atomic.Uint64
	byProc atomic.Bool // the direct way is not allowed here
}

const partSuffix = ".holdfast-part"

func newTemporary() *temporary {
	var b [8]byte
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return &temporary{prefix: "." + hex.EncodeToString(b[:]) + "-"}
}

func (t *temporary) next() string {
	return t.prefix + strconv.FormatUint(t.count.Add(1), 10) + partSuffix
}

// link gives a file without a name one.
func (t *temporary) link(fd, dir int, name string) error {
	if !t.byProc.Load() {
		err := unix.Linkat(fd, "", dir, name, unix.AT_EMPTY_PATH)
		if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EPERM) {
			return err
		}
		t.byProc.Store(true) // without CAP_DAC_READ_SEARCH the name in /proc serves
	}
	return unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), dir, name, unix.AT_SYMLINK_FOLLOW)
}
