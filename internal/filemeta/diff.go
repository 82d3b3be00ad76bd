package filemeta

import (
	"bytes"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// Diff returns the kinds of metadata in which a and b are not the same. The
// order of extended attributes does not count.
func Diff(a, b *pxar.Metadata) (d Set) {
	for w, differ := range [Kinds]bool{
		Owner:   a.UID != b.UID || a.GID != b.GID,
		Xattrs:  !haveXattrs(a.Xattrs, b.Xattrs) || !haveXattrs(b.Xattrs, a.Xattrs),
		FCaps:   !bytes.Equal(a.FCaps, b.FCaps),
		ACLs:    !bytes.Equal(AccessACL(a), AccessACL(b)) || !bytes.Equal(DefaultACL(a), DefaultACL(b)),
		Project: a.ProjectID != b.ProjectID,
		Mode:    (a.Mode^b.Mode)&permissions != 0,
		Mtime:   a.Mtime != b.Mtime,
		Flags:   a.Flags != b.Flags,
	} {
		if differ {
			d |= 1 << w
		}
	}
	return d
}

// haveXattrs reports whether all of some are in list.
func haveXattrs(list, some []pxar.Xattr) bool {
next:
	for i, x := range some {
		if isACL(x.Name) || i < len(list) && list[i].Name == x.Name && bytes.Equal(list[i].Value, x.Value) {
			continue
		}
		for _, y := range list {
			if x.Name == y.Name && bytes.Equal(x.Value, y.Value) {
				continue next
			}
		}
		return false
	}
	return true
}
