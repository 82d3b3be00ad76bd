package extract

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"golang.org/x/sys/unix"
)

// verifier compares a directory with an archive. The run is one that makes
// nothing.
type verifier struct {
	*run
	o   VerifyOptions
	res Verification
}

// Verify reads back what [Directory] made of src and compares all of it: names,
// kinds, links, contents and metadata. Nothing is changed. An error means that
// it came to no end; differences are in the result.
func Verify(ctx context.Context, src Source, target string, o VerifyOptions) (Verification, error) {
	r := &run{
		ctx: ctx, src: src, self: thisProcess(), opened: 1, piece: make([]byte, pieceBytes), old: make([]byte, pieceBytes),
		o: Options{Skip: o.Skip, IDs: o.IDs, Counters: o.Counters},
	}
	v := &verifier{run: r, o: o}
	fd, err := retry(func() (int, error) { return unix.Open(target, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return v.res, &fs.PathError{Op: "open", Path: target, Err: err}
	}
	root := &dir{run: r, fd: fd, keep: o.KeepRoot}
	defer func() {
		for len(r.stack) > 0 {
			r.pop().close()
		}
	}()
	r.push(root)
	if err := root.look(true); err != nil {
		return v.res, err
	}
	e, err := src.Next()
	if err != nil {
		return v.res, err
	}
	v.directory(root, e)
	for {
		if ctx.Err() != nil {
			return v.res, context.Cause(ctx)
		}
		e, err := src.Next()
		switch {
		case errors.Is(err, io.EOF):
			return v.res, nil
		case err != nil:
			return v.res, err
		case len(r.stack) == 0:
			return v.res, fmt.Errorf("%w: an entry behind the end of the root", pxar.ErrFormat)
		case e.Kind == pxar.End:
			d := r.pop()
			if !d.failed {
				err = r.unpark(d.fd)
				d.close()
			}
		default:
			err = v.entry(r.stack[len(r.stack)-1], e)
		}
		if err != nil {
			return v.res, err
		}
	}
}

// missing counts an entry that is not there.
func (v *verifier) missing(d *dir, e *pxar.Entry, err error) {
	v.res.problem(&v.o, &v.res.Missing, d.pathOf(e.Name), e.Kind, err)
}

var errOther = errors.New("something else is there")

func (v *verifier) entry(d *dir, e *pxar.Entry) error {
	if c := v.o.Counters; c != nil {
		c.Entries.Add(1)
	}
	if d.failed {
		v.missing(d, e, unix.ENOENT)
		if e.Kind == pxar.Directory {
			v.push(&dir{run: v.run, parent: d, name: e.Name, fd: -1, failed: true})
		}
		return nil
	}
	switch e.Kind {
	case pxar.Directory:
		v.enter(d, e)
		return nil
	case pxar.File:
		return v.file(d, e)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(d.fd, e.Name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		v.missing(d, e, err)
		return nil
	}
	if e.Kind == pxar.Hardlink {
		v.hardlink(d, e, &st)
		return nil
	}
	is := pxar.KindOf(st.Mode) == e.Kind
	switch e.Kind {
	case pxar.Symlink:
		target := make([]byte, pxar.MaxName+1)
		n, err := unix.Readlinkat(d.fd, e.Name, target)
		is = err == nil && string(target[:n]) == e.Target
	case pxar.CharDevice, pxar.BlockDevice:
		is = is && pxar.DeviceOf(uint64(st.Rdev)) == e.Device //nolint:unconvert // narrower on some machines
	}
	if !is {
		v.missing(d, e, errOther)
		return nil
	}
	v.metadata(d, e, -1, &st)
	return nil
}

func (v *verifier) enter(parent *dir, e *pxar.Entry) {
	d := &dir{run: v.run, parent: parent, name: e.Name, fd: -1}
	fd, err := retry(func() (int, error) {
		return unix.Openat(parent.fd, e.Name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err == nil {
		d.fd = fd
		err = d.look(true)
	}
	if err != nil {
		d.close()
		d.failed = true
		v.missing(parent, e, err)
	}
	v.push(d)
	if d.failed {
		return
	}
	v.directory(d, e)
	if v.crowded() {
		v.park()
	}
}

func (v *verifier) directory(d *dir, e *pxar.Entry) {
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		v.res.problem(&v.o, &v.res.Missing, d.pathOf(""), e.Kind, err)
		return
	}
	if d.keep {
		return
	}
	v.metadata(d, &pxar.Entry{Kind: e.Kind, Metadata: e.Metadata}, d.fd, &st)
}

// metadata compares it. Where owners are not, set-id bits are left out too, see
// [filemeta.FS.Apply].
func (v *verifier) metadata(d *dir, e *pxar.Entry, fd int, st *unix.Stat_t) {
	want := e.Metadata
	skip := v.prepare(&want, d, e.Name)
	if skip.Has(filemeta.Owner) && (st.Uid != want.UID || st.Gid != want.GID) {
		want.Mode &^= 0o6000
	}
	if diff := v.differs(d, fd, st, &want, skip); diff != 0 {
		v.res.differ(d.pathOf(e.Name), diff)
	}
	v.res.Same.add(e.Kind, e.Size)
}

func (v *verifier) hardlink(d *dir, e *pxar.Entry, st *unix.Stat_t) {
	names, err := pxar.SplitTarget(e.Target)
	if err != nil {
		v.missing(d, e, err)
		return
	}
	fd, opened, err := v.dirOf(names[:len(names)-1])
	if err != nil {
		v.missing(d, e, err)
		return
	}
	if opened {
		defer unix.Close(fd) //nolint:errcheck // nothing was written through it
	}
	var target unix.Stat_t
	if err := unix.Fstatat(fd, names[len(names)-1], &target, unix.AT_SYMLINK_NOFOLLOW); err != nil || target.Dev != st.Dev || target.Ino != st.Ino {
		v.missing(d, e, errOther)
		return
	}
	v.res.Same.add(e.Kind, 0)
}

func (v *verifier) file(d *dir, e *pxar.Entry) error {
	fd, err := openRead(d.fd, e.Name)
	if errors.Is(err, unix.EACCES) && v.unread(d, e) {
		return nil
	}
	if err != nil {
		v.missing(d, e, err)
		return nil
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written through it
	var st unix.Stat_t
	switch err := unix.Fstat(fd, &st); {
	case err != nil:
		v.missing(d, e, err)
		return nil
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		v.missing(d, e, errOther)
		return nil
	case st.Size != e.Size:
		v.content(d, e, fmt.Errorf("%d bytes, not %d", st.Size, e.Size))
		return nil
	}
	for off := int64(0); off < e.Size; {
		if v.ctx.Err() != nil {
			return context.Cause(v.ctx)
		}
		p := v.piece[:min(pieceBytes, e.Size-off)]
		if err := v.fill(p); err != nil {
			return err
		}
		have, err := pread(fd, v.old[:len(p)], off)
		if err == nil && !bytes.Equal(have, p) {
			err = fmt.Errorf("other bytes at offset %d or up to %d behind it", off, len(p))
		}
		if err != nil {
			v.content(d, e, err)
			return nil
		}
		off += int64(len(p))
		if c := v.o.Counters; c != nil {
			c.Bytes.Add(int64(len(p)))
		}
	}
	v.metadata(d, e, fd, &st)
	return nil
}

// unread counts a file that may not be read, and is one of this size.
func (v *verifier) unread(d *dir, e *pxar.Entry) bool {
	var st unix.Stat_t
	if unix.Fstatat(d.fd, e.Name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != e.Size {
		return false
	}
	v.res.Unread++
	return true
}

// content counts a file that has another content.
func (v *verifier) content(d *dir, e *pxar.Entry, err error) {
	v.res.problem(&v.o, &v.res.Content, d.pathOf(e.Name), e.Kind, fmt.Errorf("%w: %w", ErrMismatch, err))
}
