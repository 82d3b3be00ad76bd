// Package filerestore finds files in the archives of a snapshot, those inside of
// disk images too, and fetches them.
//
// # Paths
//
// A path leads from the snapshot into a file system:
//
//	/                                              the archives
//	/root.pxar.didx/etc/passwd                     in an archive of a directory
//	/drive-scsi0.img.fidx                          an image: what is on it
//	/drive-scsi0.img.fidx/raw/etc                  a file system on all of it
//	/drive-scsi0.img.fidx/part/1/etc               on a partition, by the kernel's number
//	/drive-scsi0.img.fidx/lvm/VG/LV/etc            on a logical volume
//	/drive-scsi0.img.fidx/md/NAME/etc              on an array
//	/drive-scsi0.img.fidx/zpool/POOL/etc           on a pool
//
// What lies inside a volume that is no file system itself continues in the same
// way: a partition table on a logical volume is "lvm/VG/LV/part/1". An encrypted
// volume is what it holds as soon as its passphrase is given. Groups of volumes
// and arrays may span images of the snapshot; they are listed on each of them.
// ".img.fidx" and ".didx" may be left out of a path. Names are any bytes.
//
// Listing an image gives its buckets ("part", of type v), listing a bucket its
// components, and below the last component are files.
//
// # Drivers
//
// A [Driver] lists and fetches what is in images: package direct in this process,
// package vm in a small virtual machine that has the images as disks and mounts
// what is on them with a kernel of its own. Nothing of an image is ever mounted
// on this host.
package filerestore

import (
	"context"
	"errors"
	"io"

	"github.com/holdfast-backup/holdfast/internal/extract"
)

// ErrLocked is wrapped by errors about encrypted volumes whose passphrase has not
// been given.
var ErrLocked = errors.New("the volume is encrypted")

// ErrPassphrase is wrapped when a passphrase opens none of the encrypted volumes.
var ErrPassphrase = errors.New("the passphrase opens no encrypted volume")

// Driver looks into the images of one snapshot.
type Driver interface {
	// List lists what a path has below itself: an image's buckets, a bucket's
	// components, a directory's entries. Of anything else it gives the one entry.
	List(ctx context.Context, p Path) ([]Entry, error)
	// Open opens what a path names as a source; see [Part].
	Open(ctx context.Context, p Path, o OpenOptions) (Part, error)
	// Notices say what a user should know of how the answers came about.
	Notices() []string
}

// Part is a file or directory with all below it, as a source of entries. A file
// is a root with this one entry.
type Part interface {
	extract.Source
	io.Closer
	IsFile() bool
}

// OpenOptions say what a [Part] yields.
type OpenOptions struct {
	Name     string // what a part that is no directory is called; "": as it is
	Follow   bool   // files in place of hard links
	Metadata bool   // hard links have the metadata of their files
	// Problem hears of entries that cannot be read, and are left out then; nil, or
	// an error of it: the first one ends everything.
	Problem func(path string, err error) error
}
