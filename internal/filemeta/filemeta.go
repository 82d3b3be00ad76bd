// Package filemeta moves what a file system knows of a file, besides its name
// and content, into [pxar.Metadata] and back: owner, mode, modification time,
// extended attributes, POSIX ACLs, file capabilities, attributes such as
// immutable, and the quota project.
//
// # What is read
//
// Owner, mode and time come from the caller's stat; the rest exists for regular
// files and directories only. Extended attributes are kept if [Stored] says so,
// in the order of the kernel; security.capability becomes FCaps, and
// system.posix_acl_access and _default become the ACL (not trusted.SGI_ACL_FILE
// and _DEFAULT, where XFS has it once more). What a file system cannot have is not asked for: a table by its magic says so at first, and an answer
// that it does not know the question for the rest of its time.
//
// Attributes are flags of FS_IOC_GETFLAGS, and of FAT_IOCTL_GET_ATTRIBUTES:
//
//	FlagAppend 0x20   FlagNoAtime 0x80      FlagCompress 0x4   FlagNoCOW 0x80_0000
//	FlagNoDump 0x40   FlagDirSync 0x1_0000  FlagImmutable 0x10 FlagSync 0x8
//	FlagNoCompress 0x400                    FlagProjectInherit 0x2000_0000
//	FlagHidden FAT 2  FlagSystem FAT 4      FlagArchive FAT 32
//
// # ACLs
//
// The value of system.posix_acl_access and _default, little-endian: version 2 in
// 4 bytes, then 8 bytes for each entry: tag 2, permissions 2, id 4. Tags are 1
// owner, 2 named user, 4 owning group, 8 named group, 16 mask, 32 others; only
// named ones have an id, the others have 0xffffffff. An archive keeps the
// owner's and others' permissions, and those of the owning group, in the mode;
// with a mask, the mode's group bits are the mask, and the owning group's
// permissions are the ACL's GroupObj.
//
// # Capabilities
//
// The value of security.capability, little-endian: revision in the highest byte
// of 4, then permitted and inheritable sets, 20 bytes in all; revision 3 has
// 4 bytes more, the user id of the root of the namespace that they count in.
//
// # What is set
//
// In this order, because each step may undo what stands behind it: owner,
// extended attributes, capabilities (a change of owner clears them), ACLs, quota
// project, mode (of an ACL it is the mask), modification time, attributes
// (an immutable file can no longer be changed). What cannot be set is reported
// by kind and never stops the rest. Where the owner could not be set, set-user-id
// and set-group-id bits are left out: they would lend the rights of somebody else.
//
// # Errors
//
// Errors of system calls come back wrapped. A list of extended attributes that
// the kernel cannot return wraps [ErrXattrsTooBig]; an ACL that is none wraps
// [ErrACL]. All other metadata is filled in then.
//
// # Source
//
// proxmox-backup: pbs-client/src/pxar/{create,metadata,flags}.rs; proxmox-sys:
// src/fs/xattr.rs; Linux: include/uapi/linux/{fs.h,posix_acl_xattr.h,capability.h}.
package filemeta

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// ErrXattrsTooBig is wrapped when the names of a file's extended attributes are
// more than the kernel lists, 64 KiB.
var ErrXattrsTooBig = errors.New("the list of extended attributes is too long for the kernel")

// ErrACL is wrapped when a value is no POSIX ACL.
var ErrACL = errors.New("not a POSIX ACL")

const (
	xattrCaps          = "security.capability"
	xattrNTACL         = "security.NTACL"
	xattrAccess        = "system.posix_acl_access"
	xattrDefault       = "system.posix_acl_default"
	firstXattrList     = 256      // bytes
	maxXattrList       = 64 << 10 // bytes, the kernel's limit
	maxXattrValue      = 64 << 10
	setIDs             = 0o6000 // set-user-id and set-group-id
	permissions        = 0o7777
	groupBits          = 0o070
	groupShift, ownerS = 3, 6
)

// Stored reports whether archives hold the extended attribute as such. Others
// are of the machine, as security.selinux, or have their own place.
func Stored(name string) bool {
	return (strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "trusted.") || name == xattrNTACL) && !isACL(name)
}

// isACL reports whether an extended attribute is the form in which XFS keeps an
// ACL, which root sees beside the ACL. Archives of the existing client may hold
// both; the ACL is what counts.
func isACL(name string) bool {
	return name == "trusted.SGI_ACL_FILE" || name == "trusted.SGI_ACL_DEFAULT"
}

// Kept reports whether archives hold the extended attribute in some form: as
// such, or as capabilities or an ACL.
func Kept(name string) bool {
	return Stored(name) || name == xattrCaps || name == xattrAccess || name == xattrDefault
}

// Add puts an extended attribute that is [Kept], with the value that the kernel
// gives for it, where it belongs in m. m must have its mode, and keeps no part of
// value.
func Add(m *pxar.Metadata, name string, value []byte) (err error) {
	switch name {
	case xattrCaps:
		m.FCaps = append([]byte{}, value...)
	case xattrAccess:
		err = setAccess(m, value)
	case xattrDefault:
		err = setDefault(m, value)
	default:
		m.Xattrs = append(m.Xattrs, pxar.Xattr{Name: name, Value: bytes.Clone(value)})
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// What is a kind of metadata.
type What uint8

// The kinds, in the order in which they are set.
const (
	Owner What = iota
	Xattrs
	FCaps
	ACLs
	Project
	Mode
	Mtime
	Flags
	Kinds // how many there are
)

// String names the kind as a sentence about it would.
func (w What) String() string {
	names := [Kinds]string{"owner", "extended attributes", "capabilities", "ACLs", "quota project", "mode", "modification time", "attributes"}
	if w < Kinds {
		return names[w]
	}
	return "metadata"
}

// Set is a set of kinds.
type Set uint16

// SetOf makes a set.
func SetOf(kinds ...What) (s Set) {
	for _, w := range kinds {
		s |= 1 << w
	}
	return s
}

// Has reports whether w is in s.
func (s Set) Has(w What) bool { return s&(1<<w) != 0 }
