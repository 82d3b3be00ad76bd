package extract

import (
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"golang.org/x/sys/unix"
)

// maker makes entries; each belongs to one goroutine.
type maker struct {
	*run
	tally
}

// errDevice is why devices are not made.
var errDevice = errors.New("devices may not be made here")

// make makes an entry that is no directory and no hard link. It returns what ends
// everything.
func (m *maker) make(d *dir, e *pxar.Entry, data []byte) error {
	var err error
	switch e.Kind {
	case pxar.File:
		err = m.small(d, e, data)
	case pxar.Symlink:
		err = m.special(d, e, Symlinks, func(name string) error { return unix.Symlinkat(e.Target, d.fd, name) })
	default:
		err = m.special(d, e, Others, func(name string) error { return mknod(d.fd, name, e) })
	}
	if err != nil {
		return m.problem(&m.tally, d, e.Name, e.Kind, e.Size, err)
	}
	m.made.add(e.Kind, e.Size)
	if c := m.o.Counters; c != nil && e.Kind == pxar.File {
		c.Bytes.Add(e.Size)
	}
	return nil
}

// may reports whether what has the name of an entry may be replaced by it.
func (r *run) may(which Existing) bool {
	return r.o.InPlace || r.o.Existing&which != 0
}

// how says how metadata is set, and where failures are counted.
func (r *run) how(skip filemeta.Set, d *dir, name string) filemeta.How {
	return filemeta.How{Skip: skip, Report: func(w filemeta.What, err error) { r.missed(d, name, w, err) }}
}

// small makes a file whose content is there.
func (m *maker) small(d *dir, e *pxar.Entry, data []byte) error {
	f, err := m.newFile(d, e)
	if err != nil {
		return err
	}
	defer f.close()
	if _, err := f.write(data, 0); err != nil {
		return err
	}
	return f.finish(e.Size)
}

// special makes a thing without content.
func (m *maker) special(d *dir, e *pxar.Entry, which Existing, create func(name string) error) error {
	name := e.Name
	err := create(name)
	replace := errors.Is(err, unix.EEXIST)
	if replace {
		if !m.may(which) {
			return ErrExists
		}
		name = m.names.next()
		err = create(name)
	}
	if err != nil {
		return err
	}
	meta := e.Metadata
	how := m.how(m.prepare(&meta, d, e.Name)&^filemeta.SetOf(filemeta.Mode), d, e.Name)
	if d.owned {
		how.Made = &m.self.owners
	}
	if err := m.dress(d, name, e, &meta, how); err != nil {
		return err
	}
	if replace {
		return m.moveOver(d, name, e.Name)
	}
	return nil
}

// errSwapped is met where somebody works in the target too.
var errSwapped = errors.New("something else was put in its place meanwhile")

// dress sets the metadata of a thing without content that has a name. Where others
// get in, it makes sure that it still is that thing, and none with other names:
// what it does not have yet must not be given to something else.
func (r *run) dress(d *dir, name string, e *pxar.Entry, meta *pxar.Metadata, how filemeta.How) error {
	if d.made {
		d.volume.ApplyAt(d.fd, name, meta, how)
		return nil
	}
	fd, err := retry(func() (int, error) {
		return unix.Openat(d.fd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written through it
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if pxar.KindOf(st.Mode) != e.Kind || st.Nlink != 1 {
		return errSwapped
	}
	d.volume.ApplyPath(fd, meta, how)
	return nil
}

// The highest device numbers of the kernel; its own have 32 bits.
const (
	maxMajor = 1<<12 - 1
	maxMinor = 1<<20 - 1
)

// mknod makes a device, FIFO or socket that nobody may use yet.
func mknod(dir int, name string, e *pxar.Entry) error {
	dev := uint64(0)
	if e.Kind == pxar.CharDevice || e.Kind == pxar.BlockDevice {
		if e.Device.Major > maxMajor || e.Device.Minor > maxMinor { // mknod would take their lowest bits
			return fmt.Errorf("no device number %d:%d: %w", e.Device.Major, e.Device.Minor, unix.EINVAL)
		}
		dev = e.Device.Dev()
	}
	err := unix.Mknodat(dir, name, e.Mode&unix.S_IFMT, int(dev))
	if errors.Is(err, unix.EPERM) && dev != 0 {
		return errDevice
	}
	return err
}
