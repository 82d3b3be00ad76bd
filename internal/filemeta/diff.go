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
		Xattrs:  !sameXattrs(a.Xattrs, b.Xattrs),
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

func sameXattrs(a, b []pxar.Xattr) bool {
	if len(a) != len(b) {
		return false
	}
next:
	for i, x := range a {
		if i < len(b) && b[i].Name == x.Name && bytes.Equal(b[i].Value, x.Value) {
			continue
		}
		for _, y := range b {
			if x.Name == y.Name {
				if bytes.Equal(x.Value, y.Value) {
					continue next
				}
				return false
			}
		}
		return false
	}
	return true
}
