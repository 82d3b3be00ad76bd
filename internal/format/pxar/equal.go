package pxar

import (
	"bytes"
	"slices"
)

// Equal reports whether m and o say the same, extended attributes in the same
// order.
func (m *Metadata) Equal(o *Metadata) bool {
	return m.SameButValues(o) && slices.EqualFunc(m.Xattrs, o.Xattrs, func(a, b Xattr) bool {
		return bytes.Equal(a.Value, b.Value)
	})
}

// SameButValues is Equal without the values of extended attributes: what the
// existing client asks of a file before it takes its content from the backup
// before.
func (m *Metadata) SameButValues(o *Metadata) bool {
	return m.Mode == o.Mode && m.Flags == o.Flags && m.UID == o.UID && m.GID == o.GID && m.Mtime == o.Mtime &&
		m.ProjectID == o.ProjectID && bytes.Equal(m.FCaps, o.FCaps) && (m.FCaps == nil) == (o.FCaps == nil) &&
		m.ACL.Equal(o.ACL) &&
		slices.EqualFunc(m.Xattrs, o.Xattrs, func(a, b Xattr) bool { return a.Name == b.Name })
}

// Equal reports whether a and o say the same; nil says nothing.
func (a *ACL) Equal(o *ACL) bool {
	var none ACL
	if a == nil {
		a = &none
	}
	if o == nil {
		o = &none
	}
	return slices.Equal(a.Users, o.Users) && slices.Equal(a.Groups, o.Groups) && samePointee(a.GroupObj, o.GroupObj) &&
		samePointee(a.Default, o.Default) &&
		slices.Equal(a.DefaultUsers, o.DefaultUsers) && slices.Equal(a.DefaultGroups, o.DefaultGroups)
}

func samePointee[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}
