package filemeta

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// Entries of the kernel's ACLs.
const (
	aclVersion   = 2
	aclEntrySize = 8
	aclOwner     = 0x01
	aclUser      = 0x02
	aclGroupObj  = 0x04
	aclGroup     = 0x08
	aclMask      = 0x10
	aclOther     = 0x20
	aclNobody    = math.MaxUint32 // the id of entries that name nobody
)

var le = binary.LittleEndian

// aclParts is an ACL of the kernel, taken apart.
type aclParts struct {
	owner, groupObj, other, mask *pxar.Perm
	users, groups                []pxar.ACLEntry
	foreign                      bool // there were entries for users or groups that this namespace does not have
}

// parseACL reads the value of a system.posix_acl attribute.
func parseACL(b []byte) (p aclParts, err error) {
	if len(b) < 4 || len(b)%aclEntrySize != 4 || le.Uint32(b) != aclVersion {
		return p, fmt.Errorf("%w: %d bytes that begin with % x", ErrACL, len(b), b[:min(4, len(b))])
	}
	for b = b[4:]; len(b) > 0; b = b[aclEntrySize:] {
		tag, perm, id := le.Uint16(b), pxar.Perm(le.Uint16(b[2:])), le.Uint32(b[4:])
		if perm > 7 {
			return p, fmt.Errorf("%w: permissions %#x", ErrACL, perm)
		}
		one, many := p.place(tag)
		switch {
		case many != nil && id != aclNobody:
			*many = append(*many, pxar.ACLEntry{ID: uint64(id), Perm: perm})
		case many != nil: // so the kernel shows them
			p.foreign = true
		case one != nil && *one == nil:
			*one = &perm
		default:
			return p, fmt.Errorf("%w: entry with tag %#x and id %d", ErrACL, tag, id)
		}
	}
	sortNamed(p.users)
	sortNamed(p.groups)
	return p, nil
}

// sortNamed puts entries in the order of archives.
func sortNamed(list []pxar.ACLEntry) {
	slices.SortFunc(list, func(a, b pxar.ACLEntry) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Perm, b.Perm))
	})
}

// place returns where an entry with this tag belongs.
func (p *aclParts) place(tag uint16) (one **pxar.Perm, many *[]pxar.ACLEntry) {
	switch tag {
	case aclOwner:
		return &p.owner, nil
	case aclGroupObj:
		return &p.groupObj, nil
	case aclOther:
		return &p.other, nil
	case aclMask:
		return &p.mask, nil
	case aclUser:
		return nil, &p.users
	case aclGroup:
		return nil, &p.groups
	}
	return nil, nil
}

// build is the inverse of parseACL. It returns nil for entries that a file
// system cannot hold: it would take rights away or give them.
func (p *aclParts) build() []byte {
	b := le.AppendUint32(make([]byte, 0, 4+aclEntrySize*(4+len(p.users)+len(p.groups))), aclVersion)
	ok := true
	add := func(tag uint16, perm pxar.Perm, id uint64) {
		ok = ok && perm <= 7 && (id < aclNobody || tag&(aclUser|aclGroup) == 0)
		b = le.AppendUint32(le.AppendUint16(le.AppendUint16(b, tag), uint16(perm)), uint32(id))
	}
	one := func(tag uint16, perm *pxar.Perm) {
		if perm != nil {
			add(tag, *perm, aclNobody)
		}
	}
	one(aclOwner, p.owner)
	for _, e := range p.users {
		add(aclUser, e.Perm, e.ID)
	}
	one(aclGroupObj, p.groupObj)
	for _, e := range p.groups {
		add(aclGroup, e.Perm, e.ID)
	}
	one(aclMask, p.mask)
	one(aclOther, p.other)
	if !ok {
		return nil
	}
	return b
}

// setAccess puts an access ACL into m. The mode says the rest.
func setAccess(m *pxar.Metadata, b []byte) error {
	p, err := parseACL(b)
	if err != nil || len(p.users)+len(p.groups) == 0 && p.mask == nil {
		return err
	}
	a := acl(m)
	a.Users, a.Groups = p.users, p.groups
	if p.mask != nil {
		a.GroupObj = new(pxar.Perm)
		if p.groupObj != nil {
			*a.GroupObj = *p.groupObj
		}
	}
	return p.complete()
}

// setDefault puts a default ACL into m.
func setDefault(m *pxar.Metadata, b []byte) error {
	p, err := parseACL(b)
	if err != nil || len(b) == 4 {
		return err
	}
	a := acl(m)
	a.DefaultUsers, a.DefaultGroups = p.users, p.groups
	perm := func(p *pxar.Perm) pxar.Perm {
		if p == nil {
			return pxar.NoPerm
		}
		return *p
	}
	if p.owner != nil || p.groupObj != nil || p.other != nil || p.mask != nil {
		a.Default = &pxar.ACLDefault{UserObj: perm(p.owner), GroupObj: perm(p.groupObj), Other: perm(p.other), Mask: perm(p.mask)}
	}
	return p.complete()
}

// errOutside is why an ACL is not complete.
var errOutside = fmt.Errorf("%w of this namespace alone: entries for others are left out", ErrACL)

// complete reports entries that were left out.
func (p *aclParts) complete() error {
	if p.foreign {
		return errOutside
	}
	return nil
}

func acl(m *pxar.Metadata) *pxar.ACL {
	if m.ACL == nil {
		m.ACL = new(pxar.ACL)
	}
	return m.ACL
}

// AccessACL returns the value of system.posix_acl_access for m, nil if its mode
// says all, or if no file system could hold it. Named entries without a mask
// get one that says what the mode's group bits do.
func AccessACL(m *pxar.Metadata) []byte {
	if !hasAccess(m.ACL) {
		return nil
	}
	group := modePerm(m, groupShift)
	p := aclParts{
		owner: modePerm(m, ownerS), groupObj: group, mask: group, other: modePerm(m, 0),
		users: m.ACL.Users, groups: m.ACL.Groups,
	}
	if m.ACL.GroupObj != nil {
		p.groupObj = m.ACL.GroupObj
	}
	return p.build()
}

func hasAccess(a *pxar.ACL) bool {
	return a != nil && (a.GroupObj != nil || len(a.Users)+len(a.Groups) > 0)
}

func hasDefault(a *pxar.ACL) bool {
	return a != nil && (a.Default != nil || len(a.DefaultUsers)+len(a.DefaultGroups) > 0)
}

func modePerm(m *pxar.Metadata, shift int) *pxar.Perm {
	return new(pxar.Perm(m.Mode>>shift) & 7)
}

// DefaultACL returns the value of system.posix_acl_default for m, nil if there
// is none, or if no file system could hold it. What must not be missing is made
// of the mode: owner, group, others, and a mask if somebody is named.
func DefaultACL(m *pxar.Metadata) []byte {
	if !hasDefault(m.ACL) {
		return nil
	}
	p := aclParts{
		owner: modePerm(m, ownerS), groupObj: modePerm(m, groupShift), other: modePerm(m, 0),
		users: m.ACL.DefaultUsers, groups: m.ACL.DefaultGroups,
	}
	if d := m.ACL.Default; d != nil {
		for _, f := range [...]struct {
			to   **pxar.Perm
			perm *pxar.Perm
		}{{&p.owner, &d.UserObj}, {&p.groupObj, &d.GroupObj}, {&p.other, &d.Other}, {&p.mask, &d.Mask}} {
			if *f.perm != pxar.NoPerm {
				*f.to = f.perm
			}
		}
	}
	if p.mask == nil && len(p.users)+len(p.groups) > 0 {
		p.mask = p.groupObj
	}
	return p.build()
}
