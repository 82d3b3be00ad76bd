package pxar

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
)

var le = binary.LittleEndian

// AppendHeader appends the header of an item with n bytes of content.
func AppendHeader(dst []byte, t Type, n uint64) []byte {
	return le.AppendUint64(le.AppendUint64(dst, uint64(t)), HeaderSize+n)
}

// AppendItem appends an item, its content given in parts. It checks nothing:
// archives that no Writer would write are made with it.
func AppendItem(dst []byte, t Type, content ...[]byte) []byte {
	n := 0
	for _, c := range content {
		n += len(c)
	}
	dst = AppendHeader(dst, t, uint64(n))
	for _, c := range content {
		dst = append(dst, c...)
	}
	return dst
}

// appendText appends an item that is a text with a NUL.
func appendText(dst []byte, t Type, s string) []byte {
	return append(append(AppendHeader(dst, t, uint64(len(s))+1), s...), 0)
}

func appendNumbers(dst []byte, t Type, v ...uint64) []byte {
	dst = AppendHeader(dst, t, 8*uint64(len(v)))
	for _, n := range v {
		dst = le.AppendUint64(dst, n)
	}
	return dst
}

// Append appends ENTRY and the items of the attributes. It checks nothing.
func (m *Metadata) Append(dst []byte) []byte {
	dst = AppendHeader(dst, TypeEntry, statSize)
	dst = le.AppendUint64(dst, uint64(m.Mode))
	dst = le.AppendUint64(dst, m.Flags)
	dst = le.AppendUint32(dst, m.UID)
	dst = le.AppendUint32(dst, m.GID)
	dst = le.AppendUint64(dst, uint64(m.Mtime.Sec))
	dst = le.AppendUint32(dst, m.Mtime.Nsec)
	dst = le.AppendUint32(dst, 0)
	for _, x := range m.Xattrs {
		dst = AppendHeader(dst, TypeXattr, uint64(len(x.Name)+1+len(x.Value)))
		dst = append(append(append(dst, x.Name...), 0), x.Value...)
	}
	if m.ACL != nil {
		dst = m.ACL.append(dst)
	}
	if m.FCaps != nil {
		dst = AppendItem(dst, TypeFCaps, m.FCaps)
	}
	if m.ProjectID != 0 {
		dst = appendNumbers(dst, TypeQuotaProjectID, m.ProjectID)
	}
	return dst
}

func (a *ACL) append(dst []byte) []byte {
	named := func(t Type, list []ACLEntry) {
		for _, e := range list {
			dst = appendNumbers(dst, t, e.ID, uint64(e.Perm))
		}
	}
	named(TypeACLUser, a.Users)
	named(TypeACLGroup, a.Groups)
	if a.GroupObj != nil {
		dst = appendNumbers(dst, TypeACLGroupObj, uint64(*a.GroupObj))
	}
	if d := a.Default; d != nil {
		dst = appendNumbers(dst, TypeACLDefault, uint64(d.UserObj), uint64(d.GroupObj), uint64(d.Other), uint64(d.Mask))
	}
	named(TypeACLDefaultUser, a.DefaultUsers)
	named(TypeACLDefaultGroup, a.DefaultGroups)
	return dst
}

// Check reports, wrapping [ErrInvalid], why the format has no place for m.
func (m *Metadata) Check() error {
	total := 0
	for _, x := range m.Xattrs {
		switch n := len(x.Name) + 1 + len(x.Value); {
		case x.Name == "" || len(x.Name) > MaxXattrName || strings.IndexByte(x.Name, 0) >= 0:
			return fmt.Errorf("%w: extended attribute name %.80q: 1 to %d bytes without NUL are possible", ErrInvalid, x.Name, MaxXattrName)
		case n > MaxXattr:
			return fmt.Errorf("%w: extended attribute %s: name and value have %d bytes, at most %d are possible", ErrInvalid, x.Name, n, MaxXattr)
		default:
			total += HeaderSize + n
		}
	}
	if len(m.FCaps) > MaxXattr {
		return fmt.Errorf("%w: file capabilities of %d bytes, at most %d are possible", ErrInvalid, len(m.FCaps), MaxXattr)
	}
	total += HeaderSize + len(m.FCaps) + HeaderSize + 8
	if a := m.ACL; a != nil {
		total += 2*HeaderSize + 40 + (HeaderSize+16)*(len(a.Users)+len(a.Groups)+len(a.DefaultUsers)+len(a.DefaultGroups))
	}
	if total > MaxAttributes {
		return fmt.Errorf("%w: %d bytes of attributes, at most %d are possible", ErrInvalid, total, MaxAttributes)
	}
	if m.Mtime.Nsec > 999_999_999 {
		return fmt.Errorf("%w: modification time with %d nanoseconds", ErrInvalid, m.Mtime.Nsec)
	}
	return nil
}

// check reports why e is no entry of the given name and kind.
func (e *Entry) check() error {
	problem := ""
	switch {
	case e.Kind == Hardlink:
		if problem = checkTarget(e.Target); problem == "" && (e.Link < 0 || e.Link >= e.Offset) {
			problem = fmt.Sprintf("a hard link at offset %d leads to %d, which is not before it", e.Offset, e.Link)
		}
	case KindOf(e.Mode) != e.Kind || e.Kind == 0:
		problem = fmt.Sprintf("%s %.80q has mode %o", e.Kind, e.Name, e.Mode)
	case e.Kind == Symlink:
		problem = checkTarget(e.Target)
	case e.Kind == File && (e.Size < 0 || e.Size > math.MaxInt64/4):
		problem = fmt.Sprintf("a file of %d bytes", e.Size)
	}
	if problem != "" {
		return fmt.Errorf("%w: %s", ErrInvalid, problem)
	}
	if e.Kind == Hardlink {
		return nil
	}
	return e.Check()
}
