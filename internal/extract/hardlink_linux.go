package extract

import (
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"golang.org/x/sys/unix"
)

// errTarget is why a hard link is not made.
var errTarget = errors.New("what the hard link leads to is no file")

// link makes a hard link to a file that was made before, or finds it made. It
// returns what ends everything.
func (r *run) link(d *dir, e *pxar.Entry) error {
	same, err := r.linked(d, e)
	if same {
		r.same.add(e.Kind, 0)
		return nil
	}
	return r.outcome(d, e, err)
}

func (r *run) linked(d *dir, e *pxar.Entry) (same bool, err error) {
	names, err := pxar.SplitTarget(e.Target)
	if err != nil {
		return false, err
	}
	if !r.stack[0].made { // an older file may still have the name that it leads to
		if err := r.drain(); err != nil {
			return false, err
		}
	}
	same, err = r.linkTo(d, e, names)
	if errors.Is(err, unix.ENOENT) { // or not be complete yet
		if err := r.drain(); err != nil {
			return false, err
		}
		same, err = r.linkTo(d, e, names)
	}
	return same, err
}

func (r *run) linkTo(d *dir, e *pxar.Entry, names []string) (same bool, err error) {
	fd, opened, err := r.dirOf(names[:len(names)-1])
	if err != nil {
		return false, fmt.Errorf("hard link to %s: %w", pxar.Join(names), err)
	}
	if opened {
		defer unix.Close(fd) //nolint:errcheck // nothing was written through it
	}
	last := names[len(names)-1]
	var target, have unix.Stat_t
	if err := unix.Fstatat(fd, last, &target, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, fmt.Errorf("hard link to %s: %w", pxar.Join(names), err)
	}
	if target.Mode&unix.S_IFMT != unix.S_IFREG {
		return false, fmt.Errorf("%w: %s", errTarget, pxar.Join(names))
	}
	if err = r.linkAt(d, fd, last, e.Name); !errors.Is(err, unix.EEXIST) {
		return false, err
	}
	if !r.may(Hardlinks) {
		return false, ErrExists
	}
	if err := unix.Fstatat(d.fd, e.Name, &have, unix.AT_SYMLINK_NOFOLLOW); err == nil && have.Dev == target.Dev && have.Ino == target.Ino {
		return r.o.InPlace, nil
	}
	temp := r.names.next()
	if err := r.linkAt(d, fd, last, temp); err != nil {
		return false, err
	}
	return false, r.moveOver(d, temp, e.Name)
}

// linkAt makes a name for a file, also for one that may not be changed.
func (r *run) linkAt(d *dir, dir int, from, to string) error {
	err := unix.Linkat(dir, from, d.fd, to, 0)
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	freeze, frozen := d.volume.thaw(dir, from)
	if !frozen {
		return err
	}
	defer freeze()
	return unix.Linkat(dir, from, d.fd, to, 0)
}

// thaw takes the attributes away that keep a file from being linked or replaced.
func (v *volume) thaw(dir int, name string) (freeze func(), frozen bool) {
	fd, err := openRead(dir, name)
	if err != nil {
		return nil, false
	}
	restore, frozen := v.Thaw(fd)
	if !frozen {
		_ = unix.Close(fd) // nothing was written through it
		return nil, false
	}
	return func() {
		restore()
		_ = unix.Close(fd) // nothing was written through it
	}, true
}

// dirOf finds a directory below the target, one name after the other; no link is
// followed. opened says that the caller has to close it.
func (r *run) dirOf(names []string) (fd int, opened bool, err error) {
	i := 0
	for i < len(names) && i+1 < len(r.stack) && r.stack[i+1].name == names[i] {
		i++
	}
	for i > 0 && r.stack[i].fd < 0 { // closed for a while
		i--
	}
	fd = r.stack[i].fd
	for _, name := range names[i:] {
		next, err := retry(func() (int, error) {
			return unix.Openat(fd, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		})
		if opened {
			_ = unix.Close(fd) // nothing was written through it
		}
		if err != nil {
			return -1, false, err
		}
		fd, opened = next, true
	}
	return fd, opened, nil
}
