package mount

import (
	"os"
	"strconv"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

const (
	xattrCaps    = "security.capability"
	xattrAccess  = "system.posix_acl_access"
	xattrDefault = "system.posix_acl_default"
)

// xattrs are all extended attributes of an entry that a user may see.
func (s *server) xattrs(e *pxar.Entry, uid uint32) []pxar.Xattr {
	s.shift(&e.Metadata)
	var list []pxar.Xattr
	add := func(name string, value []byte) {
		if value != nil {
			list = append(list, pxar.Xattr{Name: name, Value: value})
		}
	}
	for _, x := range e.Xattrs {
		if uid == 0 || !strings.HasPrefix(x.Name, "trusted.") {
			list = append(list, x)
		}
	}
	add(xattrCaps, e.FCaps)
	add(xattrAccess, filemeta.AccessACL(&e.Metadata))
	add(xattrDefault, filemeta.DefaultACL(&e.Metadata))
	return list
}

// GetXAttr returns the value of one. Where the archive has none of a kind, the
// answer is that there is no such thing here: ls then does not ask for each
// file.
func (s *server) GetXAttr(_ <-chan struct{}, h *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	n := node(h.NodeId)
	switch isACL := name == xattrAccess || name == xattrDefault; {
	case n == root && name == xattrServer:
		return fill(dest, strconv.Itoa(os.Getpid()))
	case isACL && !s.o.Links.hasACLs():
		return 0, fuse.Status(unix.EOPNOTSUPP)
	case !isACL && name != xattrCaps && !filemeta.Stored(name): // security.selinux
		return 0, fuse.Status(unix.EOPNOTSUPP)
	case !s.o.Links.hasXattrs():
		return 0, fuse.ENOATTR
	}
	e, err := s.entry(n)
	if err != nil {
		return 0, s.failed("getxattr", n, err)
	}
	for _, x := range s.xattrs(e, h.Uid) {
		if x.Name == name {
			return fill(dest, string(x.Value))
		}
	}
	return 0, fuse.ENOATTR
}

// ListXAttr returns the names of all.
func (s *server) ListXAttr(_ <-chan struct{}, h *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	if !s.o.Links.hasXattrs() {
		return 0, fuse.ENOSYS
	}
	n := node(h.NodeId)
	e, err := s.entry(n)
	if err != nil {
		return 0, s.failed("listxattr", n, err)
	}
	var b strings.Builder
	for _, x := range s.xattrs(e, h.Uid) {
		b.WriteString(x.Name)
		b.WriteByte(0)
	}
	return fill(dest, b.String())
}

// fill copies what was asked for, or says how long it is.
func fill(dest []byte, value string) (uint32, fuse.Status) {
	if len(dest) < len(value) {
		return uint32(len(value)), fuse.ERANGE
	}
	return uint32(copy(dest, value)), fuse.OK
}
