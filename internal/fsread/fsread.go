// Package fsread is what file systems in user space have in common: read-only
// views of the file system that lies in an image, without the kernel and
// without privileges. Below it each file system is a room of its own (ext, xfs,
// btrfs, ...), and so is what lies between it and the disk: partition tables,
// volume managers, encryption. Those turn images into images; a file system
// turns one into an [FS].
//
// # Wrong answers are worse than none
//
// Whoever opens an image understands it or refuses it. A feature that changes
// the meaning of bytes and is not known is an [*UnsupportedError] with its name;
// so is a file that needs one, while its neighbours are read. Nothing is guessed,
// and holes are zeros only where the format says so.
//
// # What is believed
//
// Nothing: an image is made by a stranger. Every number is checked against what
// holds it before it is used. Whatever the bytes are, an operation ends, after
// time bounded by the bytes that it reads from the image, each structure being
// visited once; a directory or a list of extents that leads back to itself is a
// [*CorruptError]. Memory is bounded by constants, said in each package; what
// belongs to a directory entry or a single file is streamed.
//
// # Names
//
// Names are any bytes but "/" and NUL, never empty, "." or "..": entries with
// other names are left out and counted as a notice. Systems that keep names as
// UTF-16 give UTF-8, lone surrogates as WTF-8. Symbolic links are only read,
// never followed.
//
// # Unclean images
//
// An image of a running machine has work in its journal. A reader applies it to
// its own view, in memory, where it can; else it says so as a notice: [About].
//
// # Errors
//
// [*UnsupportedError], [*CorruptError], [ErrNotExist], [ErrNotDir] and the errors
// of the image, which come back wrapped and mean "could not find out".
package fsread

import (
	"time"

	"github.com/holdfast-backup/holdfast/internal/image"
)

// ID names a file within its file system: an inode, a record of the MFT, the
// place of a directory record. Two entries with one ID are one file with two
// names. Tree tells subvolumes apart; it is 0 where there are none.
type ID struct{ Tree, Number uint64 }

// Kind is what a file is.
type Kind uint8

// The kinds of files. Unknown is for entries of directories that do not say it;
// a [Stat] always says it.
const (
	Unknown Kind = iota
	Regular
	Directory
	Symlink
	CharDevice
	BlockDevice
	FIFO
	Socket
)

// Stat is what a file system knows of a file besides names and content.
type Stat struct {
	ID           ID
	Kind         Kind
	Mode         uint32 // permissions with setuid, setgid and sticky: 07777
	UID, GID     uint32
	Links        uint32
	Size         int64 // bytes; of a symbolic link those of its target
	Major, Minor uint32
	Modified     time.Time // the others are zero where a file system lacks them
	Accessed     time.Time
	Changed      time.Time
	Created      time.Time
	Invented     bool // owner and mode are made up, as of FAT
}

// Entry is a name in a directory.
type Entry struct {
	Name string // raw bytes
	ID   ID
	Kind Kind // or Unknown
}

// Xattr is an extended attribute by the name that Linux shows for it:
// "user.x", "security.capability", "system.posix_acl_access" with the value that
// the system call would give.
type Xattr struct {
	Name  string
	Value []byte
}

// About describes a file system.
type About struct {
	Type    string // as mount calls it: "ext4", "xfs", "vfat"
	Label   string
	UUID    string // as blkid prints it
	Size    int64  // bytes of the image that it takes
	Notices []string
}

// FS is one file system. All methods are safe for concurrent use.
type FS interface {
	About() About
	Root() ID
	Stat(ID) (Stat, error)
	// ReadDir calls f for each entry, in the order of the directory, without
	// "." and "..". An error of f ends it and comes back as it is.
	ReadDir(dir ID, f func(Entry) error) error
	// Lookup finds a name, exactly as written, or as the file system compares
	// names if it ignores case. It is ErrNotExist if there is none.
	Lookup(dir ID, name string) (Entry, error)
	Readlink(ID) (string, error)
	// Open gives the content of a regular file as an image, which may know its
	// holes as extents (image.Extenter).
	Open(ID) (image.Image, error)
	// Xattrs lists the extended attributes, sorted by name.
	Xattrs(ID) ([]Xattr, error)
}

// Stream is a further content of a file, beside the nameless one.
type Stream struct {
	Name string
	Size int64
}

// Streamer is a file system whose files may have several contents (NTFS).
type Streamer interface {
	Streams(ID) ([]Stream, error)
	OpenStream(id ID, name string) (image.Image, error)
}
