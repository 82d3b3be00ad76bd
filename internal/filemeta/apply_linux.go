package filemeta

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"unsafe"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"golang.org/x/sys/unix"
)

// How says how metadata is set.
type How struct {
	// Skip are the kinds that are left as they are.
	Skip Set
	// Exact takes away what m does not have: other extended attributes that
	// archives hold, ACLs, capabilities, attributes, the quota project. Without
	// it the file is new and has none, but what it got from its directory.
	Exact bool
	// Inherited says that a new file may have got ACLs from its directory.
	Inherited bool
	// Made is the owner that the file is known to have, nil if nobody looked.
	Made *Owners
	// Perms says that the file is known to have the permissions of m.
	Perms bool
	// Report is told what could not be set, each kind once.
	Report func(What, error)
}

// Owners are the user and the group of a file.
type Owners struct{ UID, GID uint32 }

// errOwner is why set-id bits are not set.
var errOwner = errors.New("set-user-id and set-group-id bits are left out where the owner is not set")

// noID is the number that is no user and no group.
const noID = math.MaxUint32

// errNoOwner is why an owner is not set.
var errNoOwner = fmt.Errorf("%d is no user and no group", uint32(noID))

// errForeign is why an extended attribute of an archive is not set.
var errForeign = errors.New("archives do not hold such an attribute")

// errKind is why what only files and directories have is not set.
var errKind = fmt.Errorf("%w for what is no file and no directory", unix.EOPNOTSUPP)

// errValue is why an ACL is not set.
var errValue = errors.New("permissions above 7, or ids above 4294967294")

// setter sets the metadata of one file.
type setter struct {
	f *FS
	How
	fd int
	m  *pxar.Metadata
}

// Early sets, on a new and empty file, the attributes that count for what is
// written into it. Late sets all, and reports those that could not be set.
func (f *FS) Early(fd int, m *pxar.Metadata, how How) {
	s := setter{f, how, fd, m}
	if want := m.Flags & earlyFlags; want != 0 && !how.Skip.Has(Flags) {
		_ = s.inode(toKernel(inodeFlags[:], want), toKernel(inodeFlags[:], earlyFlags))
	}
}

// Late sets attributes alone, for a file that gets its name behind Apply: an
// immutable one could not.
func (f *FS) Late(fd int, m *pxar.Metadata, how How) {
	s := setter{f, how, fd, m}
	s.do(Flags, s.flags)
}

// Thaw takes the attributes away that keep a file from being changed or linked,
// if it has any, and returns what gives them back.
func (f *FS) Thaw(fd int) (freeze func(), frozen bool) {
	const attributes = 0x10 | 0x20 // immutable, append
	if !f.can(hasFlags) {
		return nil, false
	}
	have, err := getFlags(fd, unix.FS_IOC_GETFLAGS)
	if err != nil || have&attributes == 0 || setFlags(fd, unix.FS_IOC_SETFLAGS, have&^attributes) != nil {
		return nil, false
	}
	return func() { _ = setFlags(fd, unix.FS_IOC_SETFLAGS, have) }, true // whoever could take them away can
}

// Apply sets all of m on an open file or directory. It follows the order of the
// package comment.
func (f *FS) Apply(fd int, m *pxar.Metadata, how How) {
	s := setter{f, how, fd, m}
	if how.Exact && !how.Skip.Has(Flags) {
		f.Thaw(fd) // Flags, or what follows fails and is reported
	}
	owner := s.owner(func(uid, gid int) error { return unix.Fchown(fd, uid, gid) })
	s.do(Xattrs, s.xattrs)
	s.do(FCaps, s.caps)
	s.do(ACLs, s.acls)
	s.do(Project, s.project)
	s.mode(owner, func(mode uint32) error { return unix.Fchmod(fd, mode) })
	s.do(Mtime, s.mtime)
	s.do(Flags, s.flags)
}

// ApplyAt sets what m has for a thing that is not opened: a symbolic link, a
// device, a FIFO, a socket. It does not follow the link.
func (f *FS) ApplyAt(dir int, name string, m *pxar.Metadata, how How) {
	s := setter{f, how, -1, m}
	s.special(dir, name, unix.AT_SYMLINK_NOFOLLOW, func(mode uint32) error { return chmodAt(dir, name, mode) })
}

// ApplyPath is ApplyAt for a thing that was opened with O_PATH: nobody can put
// another one in its place meanwhile.
func (f *FS) ApplyPath(fd int, m *pxar.Metadata, how How) {
	s := setter{f, how, -1, m}
	s.special(fd, "", unix.AT_EMPTY_PATH, func(mode uint32) error { return chmodPath(fd, mode) })
}

func (s *setter) special(dir int, name string, flags int, chmod func(uint32) error) {
	owner := s.owner(func(uid, gid int) error { return unix.Fchownat(dir, name, uid, gid, flags) })
	m := s.m
	for w, has := range [...]bool{Xattrs: len(m.Xattrs) > 0, FCaps: m.FCaps != nil, ACLs: m.ACL != nil, Project: m.ProjectID != 0, Flags: m.Flags != 0} {
		if has && !s.Skip.Has(What(w)) {
			s.Report(What(w), errKind)
		}
	}
	if m.Mode&unix.S_IFMT != unix.S_IFLNK {
		s.mode(owner, chmod)
	}
	s.do(Mtime, func() error {
		ts, err := times(m)
		if err != nil {
			return err
		}
		return unix.UtimesNanoAt(dir, name, ts[:], flags)
	})
}

func (s *setter) report(w What, err error) {
	if err != nil {
		s.Report(w, err)
	}
}

func (s *setter) do(w What, set func() error) {
	if !s.Skip.Has(w) {
		s.report(w, set())
	}
}

// owner reports whether the file has the owner of m now.
func (s *setter) owner(chown func(uid, gid int) error) bool {
	switch {
	case s.Made != nil && s.Made.UID == s.m.UID && s.Made.GID == s.m.GID:
		return true
	case s.Skip.Has(Owner):
		return false
	}
	err := errNoOwner
	if s.m.UID != noID && s.m.GID != noID { // to chown these mean: leave it
		err = chown(int(s.m.UID), int(s.m.GID))
	}
	s.report(Owner, err)
	return err == nil
}

func (s *setter) mode(owner bool, chmod func(uint32) error) {
	if s.Skip.Has(Mode) {
		return
	}
	mode, lent := s.m.Mode&permissions, false
	if !owner && mode&setIDs != 0 {
		mode, lent = mode&^setIDs, true
	}
	if !s.Perms || mode&^0o777 != 0 || hasAccess(s.m.ACL) {
		if err := chmod(mode); err != nil {
			s.Report(Mode, err)
			return
		}
	}
	if lent && !s.Skip.Has(Owner) { // else this was asked for
		s.Report(Mode, errOwner)
	}
}

// chmodAt changes a mode and follows no link.
func chmodAt(dir int, name string, mode uint32) error {
	err := unix.Fchmodat(dir, name, mode, unix.AT_SYMLINK_NOFOLLOW)
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written through it
	return chmodPath(fd, mode)
}

// chmodPath changes the mode of what was opened with O_PATH. The call for it is
// of Linux 6.6; before, the descriptor has a name in /proc.
func chmodPath(fd int, mode uint32) error {
	err := unix.Fchmodat(fd, "", mode, unix.AT_EMPTY_PATH)
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return unix.ELOOP
	}
	return unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), mode)
}

func times(m *pxar.Metadata) (ts [2]unix.Timespec, err error) {
	if ts[1], err = unix.TimeToTimespec(m.Mtime.Time()); err != nil {
		return ts, err
	}
	ts[0].Nsec = unix.UTIME_OMIT
	return ts, nil
}

func (s *setter) mtime() error {
	ts, err := times(s.m)
	if err != nil {
		return err
	}
	// Without a name the call is about the descriptor; package unix always has one.
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(s.fd), 0, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func (s *setter) xattrs() (all error) {
	if len(s.m.Xattrs) == 0 && !s.Exact {
		return nil
	}
	if !s.f.can(hasXattrs) {
		if len(s.m.Xattrs) > 0 {
			return unix.EOPNOTSUPP
		}
		return nil
	}
	if s.Exact {
		all = s.removeOthers()
	}
	for _, x := range s.m.Xattrs {
		if isACL(x.Name) {
			continue
		}
		if !Stored(x.Name) {
			all = errors.Join(all, fmt.Errorf("%.80q: %w", x.Name, errForeign))
			continue
		}
		if err := unix.Fsetxattr(s.fd, x.Name, x.Value, 0); err != nil {
			all = errors.Join(all, fmt.Errorf("%.80q: %w", x.Name, err))
		}
	}
	return all
}

// removeOthers takes away the extended attributes that m does not have.
func (s *setter) removeOthers() (all error) {
	buf := s.f.scratch.Get().(*scratch) //nolint:forcetypeassert // the pool holds nothing else
	defer s.f.scratch.Put(buf)
	names, err := buf.names(s.fd)
	if err != nil {
		if s.f.refused(hasXattrs, err) {
			return nil
		}
		return err
	}
	for b := range bytes.SplitSeq(names, []byte{0}) {
		if name := string(b); Stored(name) && !s.wants(name) {
			if err := unix.Fremovexattr(s.fd, name); err != nil && !errors.Is(err, unix.ENODATA) {
				all = errors.Join(all, fmt.Errorf("remove %.80q: %w", name, err))
			}
		}
	}
	return all
}

func (s *setter) wants(name string) bool {
	for _, x := range s.m.Xattrs {
		if x.Name == name {
			return true
		}
	}
	return false
}

// value sets an extended attribute, or takes it away.
func (s *setter) value(name string, value []byte, there bool) error {
	switch {
	case value != nil && !s.f.can(hasXattrs):
		return unix.EOPNOTSUPP
	case value != nil:
		return unix.Fsetxattr(s.fd, name, value, 0)
	case there && s.f.can(hasXattrs):
		// Taking away what is not there may need rights too.
		if _, err := unix.Fgetxattr(s.fd, name, nil); err != nil {
			return nil //nolint:nilerr // nothing is there
		}
		if err := unix.Fremovexattr(s.fd, name); err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
	}
	return nil
}

func (s *setter) caps() error { return s.value(xattrCaps, s.m.FCaps, s.Exact) }

func (s *setter) acls() error {
	there := s.Exact || s.Inherited
	access, byDefault := AccessACL(s.m), []byte(nil)
	if access == nil && hasAccess(s.m.ACL) {
		return errValue
	}
	err := s.value(xattrAccess, access, there)
	if s.m.Mode&unix.S_IFMT == unix.S_IFDIR {
		if byDefault = DefaultACL(s.m); byDefault == nil && hasDefault(s.m.ACL) {
			return errValue
		}
		err = errors.Join(err, s.value(xattrDefault, byDefault, there))
	}
	return err
}

func (s *setter) project() error {
	if s.m.ProjectID == 0 && !s.Exact {
		return nil
	}
	id := uint32(s.m.ProjectID)
	switch {
	case uint64(id) != s.m.ProjectID:
		return fmt.Errorf("project id %d: %w", s.m.ProjectID, unix.ERANGE)
	case !s.f.can(hasProject) && id == 0:
		return nil
	case !s.f.can(hasProject):
		return unix.EOPNOTSUPP
	}
	var x fsxattr
	if err := x.get(s.fd); err != nil {
		if s.f.refused(hasProject, err) && id == 0 {
			return nil
		}
		return err
	}
	if x.projid == id {
		return nil
	}
	x.projid = id
	return x.set(s.fd)
}

func (s *setter) flags() (all error) {
	if s.m.Flags == 0 && !s.Exact {
		return nil
	}
	if want := toKernel(inodeFlags[:], s.m.Flags); want != 0 || s.Exact {
		all = s.inode(want, toKernel(inodeFlags[:], ^uint64(0)))
	}
	if want := toKernel(fatFlags[:], s.m.Flags); want != 0 || s.Exact {
		all = errors.Join(all, s.change(hasFAT, getFAT, setFAT, want, toKernel(fatFlags[:], ^uint64(0))))
	}
	return all
}

func (s *setter) inode(want, mask uint32) error {
	return s.change(hasFlags, unix.FS_IOC_GETFLAGS, unix.FS_IOC_SETFLAGS, want, mask)
}

// change makes the flags below mask those in want. Without Exact none is taken
// away: a new file may have got some from its directory, as "compress", and
// somebody wanted that.
func (s *setter) change(feature uint32, get, set uint, want, mask uint32) error {
	if !s.f.can(feature) {
		if want != 0 {
			return unix.EOPNOTSUPP
		}
		return nil
	}
	have, err := getFlags(s.fd, get)
	if err != nil {
		if s.f.refused(feature, err) && want == 0 {
			return nil
		}
		return err
	}
	flags := have | want
	if s.Exact {
		flags = have&^mask | want
	}
	if flags == have {
		return nil
	}
	err = setFlags(s.fd, set, flags)
	if err != nil && bits.OnesCount32(flags^have) > 1 {
		// One that this file system lacks must not keep the others away.
		err = nil
		for diff := flags ^ have; diff != 0; diff &= diff - 1 {
			if e := setFlags(s.fd, set, have^diff&-diff); e != nil {
				err = e
			} else {
				have ^= diff & -diff
			}
		}
	}
	return err
}
