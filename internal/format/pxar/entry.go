package pxar

import (
	"fmt"
	"time"
)

// Kind is what an entry is.
type Kind uint8

// The kinds. End comes only from a [Reader]: all entries of a directory have
// been seen.
const (
	Directory Kind = 1 + iota
	File
	Symlink
	Hardlink
	CharDevice
	BlockDevice
	FIFO
	Socket
	End
)

func (k Kind) String() string {
	names := [...]string{
		"no kind", "directory", "file", "symlink", "hardlink", "character device", "block device", "fifo", "socket", "end of directory",
	}
	return names[min(int(k), len(names)-1)]
}

// The type bits of a mode, as Linux has them.
const (
	ModeType        = 0o170000
	ModeSocket      = 0o140000
	ModeSymlink     = 0o120000
	ModeFile        = 0o100000
	ModeBlockDevice = 0o060000
	ModeDirectory   = 0o040000
	ModeCharDevice  = 0o020000
	ModeFIFO        = 0o010000
)

// KindOf tells what an entry with this mode is; 0 if the mode has no known
// type.
func KindOf(mode uint32) Kind {
	switch mode & ModeType {
	case ModeSocket:
		return Socket
	case ModeSymlink:
		return Symlink
	case ModeFile:
		return File
	case ModeBlockDevice:
		return BlockDevice
	case ModeDirectory:
		return Directory
	case ModeCharDevice:
		return CharDevice
	case ModeFIFO:
		return FIFO
	}
	return 0
}

// Entry is one thing in an archive. Strings and slices of an entry are never
// changed by this package, so copying the struct is enough to keep it.
type Entry struct {
	Name     string // any bytes but '/' and NUL, never "", "." or ".."; "" for the root
	Kind     Kind
	Metadata // zero in a hard link

	Size   int64  // of a file's content, bytes
	Target string // of a symbolic link: any bytes but NUL; of a hard link: see [SplitTarget]
	Device Device

	// What follows says where things lie in the archive, the metadata stream of
	// version 2. Readers fill it in, and a Writer what it knows.

	Offset  int64 // of the FILENAME item, of the root: of its ENTRY
	Body    int64 // of the first byte behind the metadata: content of a version 1 file, first child of a directory
	EndPos  int64 // behind the entry, of a directory behind its goodbye table; 0 where not known
	Payload int64 // version 2: of a file's PAYLOAD header in the payload stream
	Link    int64 // of a hard link: Offset of its target
}

// Metadata is what a file system knows of a file besides its name and content.
type Metadata struct {
	Mode      uint32 // with type bits
	Flags     uint64 // file attributes, see the Flag constants
	UID, GID  uint32
	Mtime     Time
	Xattrs    []Xattr // in the order of the file system
	ACL       *ACL    // nil: none
	FCaps     []byte  // value of security.capability; nil: none
	ProjectID uint64  // quota project; 0: none
}

// Time is a point in time. Nsec counts forward, so half a second before 1970
// is {-1, 500000000}.
type Time struct {
	Sec  int64  // since 1970-01-01 UTC
	Nsec uint32 // 0 to 999999999
}

// Time returns t as the standard library has it.
func (t Time) Time() time.Time { return time.Unix(t.Sec, int64(t.Nsec)) }

// TimeOf is the inverse of [Time.Time].
func TimeOf(t time.Time) Time { return Time{t.Unix(), uint32(t.Nanosecond())} }

// Xattr is an extended attribute.
type Xattr struct {
	Name  string // 1 to 255 bytes without NUL
	Value []byte
}

// Perm is the permissions of an entry of an ACL: 4 read, 2 write, 1 execute.
type Perm uint64

// NoPerm stands in [ACLDefault] for an entry that does not exist.
const NoPerm = ^Perm(0)

// ACLEntry is the permissions of a named user or group.
type ACLEntry struct {
	ID   uint64
	Perm Perm
}

// ACLDefault is the part of a default ACL that names nobody.
type ACLDefault struct{ UserObj, GroupObj, Other, Mask Perm }

// ACL is what POSIX ACLs say more than the mode. Owner and others of the
// access ACL are those of the mode.
type ACL struct {
	Users, Groups               []ACLEntry // ordered by id, then permissions
	GroupObj                    *Perm      // of the owning group; nil: there is no mask, else the mode's group bits are the mask
	Default                     *ACLDefault
	DefaultUsers, DefaultGroups []ACLEntry
}

// Device is a device number.
type Device struct{ Major, Minor uint64 }

// DeviceOf takes a Linux dev_t apart.
func DeviceOf(dev uint64) Device {
	return Device{
		Major: dev>>8&0xfff | dev>>32&0xfffff000,
		Minor: dev&0xff | dev>>12&0xffffff00,
	}
}

// Dev is the inverse of [DeviceOf] for numbers of 32 bits.
func (d Device) Dev() uint64 {
	return d.Major&0xfff<<8 | d.Major&0xfffff000<<32 | d.Minor&0xff | d.Minor&0xffffff00<<12
}

// The flags and the Linux attributes that they stand for.
const (
	FlagHidden         = 0x2000     // FAT
	FlagSystem         = 0x4000     // FAT
	FlagArchive        = 0x8000     // FAT
	FlagAppend         = 0x1_0000   // FS_APPEND_FL
	FlagNoAtime        = 0x2_0000   // FS_NOATIME_FL
	FlagCompress       = 0x4_0000   // FS_COMPR_FL
	FlagNoCOW          = 0x8_0000   // FS_NOCOW_FL
	FlagNoDump         = 0x10_0000  // FS_NODUMP_FL
	FlagDirSync        = 0x20_0000  // FS_DIRSYNC_FL
	FlagImmutable      = 0x40_0000  // FS_IMMUTABLE_FL
	FlagSync           = 0x80_0000  // FS_SYNC_FL
	FlagNoCompress     = 0x100_0000 // FS_NOCOMP_FL
	FlagProjectInherit = 0x200_0000 // FS_PROJINHERIT_FL
)

func (e *Entry) String() string { return fmt.Sprintf("%s %q", e.Kind, e.Name) }
