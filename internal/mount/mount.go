// Package mount shows a pxar archive as a directory, through FUSE: read-only,
// with all metadata, and without a table of what is in it.
//
// # Numbers
//
// The number of an inode says where it lies in the archive, the metadata stream
// of version 2:
//
//	1               the root
//	2 × end         a directory that ends at this offset
//	2 × offset + 1  anything else whose FILENAME is at this offset
//
// So nothing is to be remembered from one request to the next. A hard link has
// the number of the file that it stands for.
//
// # What is shown
//
// Mode, owner, size, device numbers and modification time are those of the
// archive; access and change time are the modification time. A file's blocks are
// its size in units of 512 bytes, rounded up. A directory has no size and 1 link,
// as on btrfs: programs then do not conclude from the number how many directories
// are in it. A listing has the order of the archive, which is that of the names'
// bytes, and its positions are offsets in the archive, so they hold for ever.
// Names of more than [MaxName] bytes cannot be shown and are left out.
//
// Extended attributes are those stored, trusted.* for root only, and
// security.capability. ACLs are there as system.posix_acl_access and _default, and
// the kernel heeds them. The attributes of lsattr and the quota project are there
// for the ioctls that read them.
//
// # Links
//
// tar, rsync and cp look for hard links only among files that have more than
// one. The archive does not say at a file that there are links to it: who has
// all its items looked at by [CountLinks] first shows true numbers. Without that
// every file has 2 links, which makes these programs find all links that there
// are. The look also shows whether there are ACLs and other extended attributes
// at all: where there are none, programs like ls are told so once and do not ask
// for each file.
//
// # The kernel
//
// The content cannot change, so the kernel may keep names, attributes, listings,
// ACLs and pages for ever. It checks permissions by mode and ACL, except where
// the user who mounts is not root and nobody else may use the file system: who
// can read the backup may read all of it. Opening and closing are no requests at
// all: who knows the number can read. A listing brings the attributes of all that
// it names.
//
// # Memory
//
// The 64 directories last used with at most 64 KiB each of their tables and as
// much of attributes; 32 listings under way with at most 128 KiB each and an entry
// with as much; 1024 files last read; for `..`, the parents of 16384 directories; 8
// bytes for every hard link, [MaxLinks] of them. A request takes its length, at
// most [MaxRequest]. The archive's readers have caches of their own.
//
// # Failures
//
// What cannot be read, because it is damaged, missing or no valid archive, is an
// input/output error for who asked, and a line in the log with the path and the
// reason: at most one line a second, with the number of those that were left out.
// Everything else goes on. No byte that was not read is ever returned.
//
// # Death
//
// A file system whose process was killed stays mounted and fails every request.
// [Clear] takes it away.
//
// # Source
//
// Linux: include/uapi/linux/fuse.h, fs/fuse.
package mount

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/holdfast-backup/holdfast/internal/kernel/fusemount"
)

const (
	// MaxName is how many bytes a name may have for the kernel to show it.
	MaxName = 1024
	// MaxRequest is the longest read in bytes.
	MaxRequest = 1 << 20
	// MaxLinks is how many hard links are counted.
	MaxLinks = 4 << 20
)

// Type is the type of our file systems in the mount table.
const Type = "fuse.holdfast"

// Options says how an archive is mounted.
type Options struct {
	Source     string // the source column of mount tables
	AllowOther bool   // other users than the one who mounts may use it
	Links      *Links // see [CountLinks]; nil: not counted
	// Users and Groups replace ids; nil: the stored ones are shown. An id
	// without a counterpart is shown as that of nobody, 65534.
	Users, Groups func(id uint32) (uint32, bool)
	Log           *slog.Logger

	oldKernel bool // files are opened, as before Linux 5.1
}

// MountedError reports a directory on which an archive is mounted already.
type MountedError struct{ At fusemount.Mount }

func (e *MountedError) Error() string {
	return fmt.Sprintf("%s is mounted on %s already", e.At.Source, e.At.Path)
}

// ErrNotMounted is wrapped when nothing of ours is mounted on a directory.
var ErrNotMounted = errors.New("no archive is mounted there")

// List returns what is mounted.
func List() (ours []fusemount.Mount, err error) {
	all, err := fusemount.List()
	for _, m := range all {
		if m.Type == Type {
			ours = append(ours, m)
		}
	}
	return ours, err
}

// Clear takes away what a process that was killed left mounted on dir, whatever
// it was, and reports whether there was something.
func Clear(ctx context.Context, dir string) (bool, error) {
	if !fusemount.Dead(dir) {
		return false, nil
	}
	return true, fusemount.Unmount(ctx, dir, true) // nobody answers: its users have errors already
}

// Unmount takes away the archive that is mounted on dir, and waits for its
// process to let go of it. One in use is an error that wraps
// [fusemount.ErrBusy], unless lazy is set: then it is out of sight at once and
// ends with its last user.
func Unmount(ctx context.Context, dir string, lazy bool) error {
	m, ok, err := fusemount.At(dir)
	if err != nil {
		return err
	}
	if !ok || m.Type != Type {
		return fmt.Errorf("%s: %w", dir, ErrNotMounted)
	}
	server := serverOf(m.Path)
	defer server.close()
	if err := fusemount.Unmount(ctx, m.Path, lazy); err != nil {
		return err
	}
	if !lazy {
		server.wait(ctx)
	}
	return nil
}
