package filemeta

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"golang.org/x/sys/unix"
)

// Read fills all of m: from st, and for files and directories from fd too, which
// is open for reading. An error is about attributes; m has the others then. For
// a file without any that is one system call, or two or three where the file
// system has flags and quota projects.
func (f *FS) Read(fd int, st *unix.Stat_t, m *pxar.Metadata) error {
	*m = pxar.Metadata{
		Mode: st.Mode, UID: st.Uid, GID: st.Gid,
		Mtime: pxar.Time{Sec: int64(st.Mtim.Sec), Nsec: uint32(st.Mtim.Nsec)}, //nolint:unconvert // narrower on some machines
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR:
	default:
		return nil
	}
	return errors.Join(f.readXattrs(fd, m), f.readFlags(fd, m), f.readProject(fd, m))
}

func (f *FS) readFlags(fd int, m *pxar.Metadata) error {
	if f.can(hasFlags) {
		flags, err := getFlags(fd, unix.FS_IOC_GETFLAGS)
		if err != nil && !f.refused(hasFlags, err) {
			return fmt.Errorf("read attributes: %w", err)
		}
		if err == nil {
			m.Flags = toArchive(inodeFlags[:], flags)
		}
	}
	if f.can(hasFAT) {
		flags, err := getFlags(fd, getFAT)
		if err != nil && !f.refused(hasFAT, err) {
			return fmt.Errorf("read FAT attributes: %w", err)
		}
		if err == nil {
			m.Flags |= toArchive(fatFlags[:], flags)
		}
	}
	return nil
}

func (f *FS) readProject(fd int, m *pxar.Metadata) error {
	if !f.can(hasProject) {
		return nil
	}
	var x fsxattr
	if err := x.get(fd); err != nil {
		if f.refused(hasProject, err) {
			return nil
		}
		return fmt.Errorf("read quota project: %w", err)
	}
	m.ProjectID = uint64(x.projid)
	return nil
}

func (f *FS) readXattrs(fd int, m *pxar.Metadata) error {
	if !f.can(hasXattrs) {
		return nil
	}
	s := f.scratch.Get().(*scratch) //nolint:forcetypeassert // the pool holds nothing else
	defer f.scratch.Put(s)
	names, err := s.names(fd)
	if err != nil {
		if f.refused(hasXattrs, err) {
			return nil
		}
		return err
	}
	var all error
	for len(names) > 0 {
		name, rest, _ := bytes.Cut(names, []byte{0})
		names = rest
		all = errors.Join(all, s.attribute(fd, string(name), m))
	}
	return all
}

// names lists the extended attributes, each name with a NUL behind it.
//
// XFS lists them in another order when the buffer is large, so it begins with
// the size that the existing client takes, and doubles: names in another order
// make a file look changed.
func (s *scratch) names(fd int) ([]byte, error) {
	for size := firstXattrList; ; {
		if size > len(s.list) {
			s.list = make([]byte, size)
		}
		n, err := unix.Flistxattr(fd, s.list[:size])
		switch {
		case err == nil:
			return s.list[:n], nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ERANGE) && size < maxXattrList:
			size *= 2
		case errors.Is(err, unix.E2BIG), errors.Is(err, unix.ERANGE):
			return nil, fmt.Errorf("%w: %w", ErrXattrsTooBig, err)
		case isRefusal(err):
			return nil, err
		default:
			return nil, fmt.Errorf("list extended attributes: %w", err)
		}
	}
}

func isRefusal(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EBADF)
}

// attribute reads one extended attribute into m, if archives hold it.
func (s *scratch) attribute(fd int, name string, m *pxar.Metadata) error {
	if !Kept(name) {
		return nil
	}
	value, err := s.get(fd, name)
	switch {
	case errors.Is(err, unix.ENODATA): // removed meanwhile
		return nil
	case err != nil:
		return fmt.Errorf("read extended attribute %s: %w", name, err)
	}
	return Add(m, name, value)
}

// get reads an extended attribute. The value is valid until the next call.
func (s *scratch) get(fd int, name string) ([]byte, error) {
	buf := s.value
	for {
		n, err := unix.Fgetxattr(fd, name, buf)
		switch {
		case err == nil:
			return buf[:n], nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ERANGE) && len(buf) < maxXattrValue:
			buf = make([]byte, maxXattrValue)
		default:
			return nil, err
		}
	}
}
