package filemeta

import (
	"bytes"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// Shift replaces the users and groups in m by what uid and gid say: the owner,
// named entries of ACLs, and the root that capabilities count for. It returns
// the kinds with an id that has no counterpart: the owner stays then as it is,
// and capabilities are dropped. Entries of ACLs are dropped one by one: where
// they are missing, nobody can be who they are about. The rest of the ACL stays,
// since without it the group would get what the mask allows.
//
// Capabilities without a root are those of user 0, and the reverse. This is the
// way out of a container: if its user 0 is nobody, the capabilities count
// nowhere.
func Shift(m *pxar.Metadata, uid, gid func(uint32) (uint32, bool)) (lost Set) {
	u, ok := uid(m.UID)
	g, also := gid(m.GID)
	if ok && also {
		m.UID, m.GID = u, g
	} else {
		lost |= SetOf(Owner)
	}
	if m.ACL != nil {
		a := *m.ACL // m's own may belong to somebody else
		named := len(a.Users) + len(a.Groups) + len(a.DefaultUsers) + len(a.DefaultGroups)
		a.Users, a.Groups = shiftNamed(a.Users, uid), shiftNamed(a.Groups, gid)
		a.DefaultUsers, a.DefaultGroups = shiftNamed(a.DefaultUsers, uid), shiftNamed(a.DefaultGroups, gid)
		if len(a.Users)+len(a.Groups)+len(a.DefaultUsers)+len(a.DefaultGroups) < named {
			lost |= SetOf(ACLs)
		}
		m.ACL = &a
	}
	if m.FCaps != nil {
		if m.FCaps, ok = shiftCaps(m.FCaps, uid); !ok {
			m.FCaps = nil
			lost |= SetOf(FCaps)
		}
	}
	return lost
}

// ShiftIn is Shift for the way into a container, from files of its host. As the
// kernel shows it in there, capabilities without a root stay as they are.
func ShiftIn(m *pxar.Metadata, uid, gid func(uint32) (uint32, bool)) (lost Set) {
	caps := m.FCaps
	if lost = Shift(m, uid, gid); lost.Has(FCaps) && hasNoRoot(caps) {
		m.FCaps = caps
		lost &^= SetOf(FCaps)
	}
	return lost
}

// hasNoRoot reports whether capabilities are of the revision that knows none.
func hasNoRoot(b []byte) bool {
	return len(b) == capsSize && le.Uint32(b)&capsRevision == capsRevision2
}

// shiftNamed returns a new list, in the order of the new ids.
func shiftNamed(list []pxar.ACLEntry, ids func(uint32) (uint32, bool)) (shifted []pxar.ACLEntry) {
	for _, e := range list {
		if id, ok := ids(uint32(e.ID)); ok && e.ID == uint64(uint32(e.ID)) {
			shifted = append(shifted, pxar.ACLEntry{ID: uint64(id), Perm: e.Perm})
		}
	}
	sortNamed(shifted)
	return shifted
}

const (
	capsSize      = 20 // of revision 2; revision 3 has 4 bytes more
	capsRevision  = 0xff00_0000
	capsRevision2 = 0x0200_0000
	capsRevision3 = 0x0300_0000
)

// shiftCaps returns capabilities that count for another root. What is none
// comes back as it is.
func shiftCaps(b []byte, uid func(uint32) (uint32, bool)) ([]byte, bool) {
	if len(b) < capsSize {
		return b, true // revision 1 knows no root
	}
	magic, root := le.Uint32(b), uint32(0)
	switch {
	case hasNoRoot(b):
	case magic&capsRevision == capsRevision3 && len(b) == capsSize+4:
		root = le.Uint32(b[capsSize:])
	default:
		return b, true
	}
	root, ok := uid(root)
	if !ok {
		return nil, false
	}
	b = bytes.Clone(b[:capsSize])
	if root == 0 {
		le.PutUint32(b, magic&^capsRevision|capsRevision2)
		return b, true
	}
	le.PutUint32(b, magic&^capsRevision|capsRevision3)
	return le.AppendUint32(b, root), true
}
