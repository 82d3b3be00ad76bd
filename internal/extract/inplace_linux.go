package extract

import (
	"bytes"
	"context"
	"errors"

	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"golang.org/x/sys/unix"
)

// keep looks whether what the target has is the entry, but for metadata, which
// it sets. If not, the entry is to be made. It returns what ends everything.
func (r *run) keep(d *dir, e *pxar.Entry) (done bool, err error) {
	var st unix.Stat_t
	if unix.Fstatat(d.fd, e.Name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || pxar.KindOf(st.Mode) != e.Kind {
		return false, nil // whatever the reason, making it will tell
	}
	switch e.Kind {
	case pxar.File:
		return r.keepFile(d, e, &st)
	case pxar.Symlink:
		target := make([]byte, pxar.MaxName+1)
		if n, err := unix.Readlinkat(d.fd, e.Name, target); err != nil || string(target[:n]) != e.Target {
			return false, nil //nolint:nilerr // as above
		}
	case pxar.CharDevice, pxar.BlockDevice:
		if pxar.DeviceOf(uint64(st.Rdev)) != e.Device { //nolint:unconvert // narrower on some machines
			return false, nil
		}
	}
	want := e.Metadata
	how := r.how(r.prepare(&want, d, e.Name), d, e.Name)
	how.Exact = true
	if diff := r.differs(d, -1, &st, &want, how.Skip); diff != 0 {
		if st.Nlink > 1 {
			return false, nil
		}
		if r.dress(d, e.Name, e, &want, how) != nil {
			return false, nil
		}
		r.changed.add(e.Kind, 0)
	}
	r.same.add(e.Kind, 0)
	return true, nil
}

// differs returns the kinds of metadata that are not as wanted.
func (r *run) differs(d *dir, fd int, st *unix.Stat_t, want *pxar.Metadata, skip filemeta.Set) filemeta.Set {
	var have pxar.Metadata
	_ = d.volume.Read(fd, st, &have) // what cannot be read is set
	diff := filemeta.Diff(&have, want)
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		diff &^= filemeta.SetOf(filemeta.Mode)
	}
	return diff &^ skip
}

// same reports whether a directory has the metadata of the archive.
func (d *dir) same() bool {
	var st unix.Stat_t
	return unix.Fstat(d.fd, &st) == nil && d.run.differs(d, d.fd, &st, &d.meta, d.skip) == 0
}

func (r *run) keepFile(d *dir, e *pxar.Entry, st *unix.Stat_t) (done bool, err error) {
	mtime := pxar.Time{Sec: int64(st.Mtim.Sec), Nsec: uint32(st.Mtim.Nsec)} //nolint:unconvert // narrower on some machines
	if st.Size != e.Size || !r.o.Checksum && mtime != e.Mtime {
		return false, nil
	}
	fd, err := openRead(d.fd, e.Name)
	if err != nil {
		return false, nil //nolint:nilerr // making it will tell
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written through it
	var now unix.Stat_t
	if unix.Fstat(fd, &now) != nil || now.Ino != st.Ino || now.Size != e.Size {
		return false, nil
	}
	want := e.Metadata
	how := r.how(r.prepare(&want, d, e.Name), d, e.Name)
	how.Exact = true
	diff := r.differs(d, fd, &now, &want, how.Skip)
	if diff != 0 && now.Nlink > 1 {
		return false, nil
	}
	if r.o.Checksum {
		if same, err := r.compare(d, fd, e); !same || err != nil {
			return true, err
		}
	} else if r.o.Counters != nil {
		r.o.Counters.Bytes.Add(e.Size)
	}
	if diff != 0 {
		d.volume.Apply(fd, &want, how)
		r.changed.add(e.Kind, e.Size)
	}
	r.same.add(e.Kind, e.Size)
	return true, nil
}

// openRead opens a file to read it, as far as possible without a trace.
func openRead(dir int, name string) (int, error) {
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	fd, err := retry(func() (int, error) { return unix.Openat(dir, name, flags|unix.O_NOATIME, 0) })
	if errors.Is(err, unix.EPERM) { // it belongs to somebody else
		fd, err = retry(func() (int, error) { return unix.Openat(dir, name, flags, 0) })
	}
	return fd, err
}

// compare reads the content of an entry and that of the file. Where they part it
// makes the file anew: what was the same is copied from the old one.
func (r *run) compare(d *dir, fd int, e *pxar.Entry) (same bool, err error) {
	if r.piece == nil {
		r.piece = make([]byte, pieceBytes)
	}
	if r.old == nil {
		r.old = make([]byte, pieceBytes)
	}
	for off := int64(0); off < e.Size; {
		if r.ctx.Err() != nil {
			return false, context.Cause(r.ctx)
		}
		p := r.piece[:min(pieceBytes, e.Size-off)]
		if err := r.fill(p); err != nil {
			return false, r.unreadable(d, e, err)
		}
		if have, err := pread(fd, r.old[:len(p)], off); err != nil || !bytes.Equal(have, p) {
			return false, r.remake(d, fd, e, p, off) //nolint:nilerr // what cannot be read is replaced
		}
		off += int64(len(p))
		if r.o.Counters != nil {
			r.o.Counters.Bytes.Add(int64(len(p)))
		}
	}
	return true, nil
}

// remake makes a file whose content up to off is that of an old one, goes on
// with p, and with what is to be read.
func (r *run) remake(d *dir, old int, e *pxar.Entry, p []byte, off int64) error {
	f, err := r.newFile(d, e)
	if err != nil {
		return r.problem(&r.tally, d, e.Name, e.Kind, e.Size, err)
	}
	defer f.close()
	for at := int64(0); at < off && err == nil; at += pieceBytes {
		var have []byte
		if have, err = pread(old, r.old[:min(pieceBytes, off-at)], at); err == nil {
			_, err = f.write(have, at)
		}
	}
	if err == nil {
		_, err = f.write(p, off)
	}
	if err != nil {
		return r.problem(&r.tally, d, e.Name, e.Kind, e.Size, err)
	}
	return r.stream(f, e, off+int64(len(p)))
}

// pread fills p, or as much as there is.
func pread(fd int, p []byte, off int64) ([]byte, error) {
	done := 0
	for done < len(p) {
		n, err := retry(func() (int, error) { return unix.Pread(fd, p[done:], off+int64(done)) })
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		done += n
	}
	return p[:done], nil
}
