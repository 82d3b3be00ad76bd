// Package vfs is the narrow set of system calls that a datastore may use.
//
// One implementation talks to the kernel ([OS]); another is a simulated disk
// that can cut the power between any two calls and then shows only what a real
// disk might have kept.
//
// # Names
//
// A name is relative to the root of the file system, slash separated, without
// "." or ".." components; "." alone is the root. The last component is never
// followed when it is a symbolic link.
//
// # What is durable when
//
//   - File.Sync makes the bytes and the length of that file durable, not its
//     name.
//   - SyncDir makes the entries of that one directory durable: creations,
//     renames and removals done in it before the call.
//   - SyncFS makes everything done before the call durable.
//   - Without one of these, a crash may keep or lose each change
//     independently: data may be torn or read as zeros although the length is
//     right, and renames and removals may survive in another order than they
//     were made. A single rename or removal is atomic.
//
// # Errors
//
// Errors wrap fs.ErrNotExist, fs.ErrExist and fs.ErrPermission, or
// syscall.Errno values such as ENOSPC, EIO, ENOTDIR and ENOTEMPTY (which also is
// fs.ErrExist); each names operation and path. An illegal name is fs.ErrInvalid
// (see [CheckName]), another thing where a file should be is [ErrNotRegular].
// [ErrLocked] says that a lock is held by someone else.
//
// # Testing with it
//
// Package vfstest holds implementations to all this. vfs/simdisk cuts the power,
// vfs/faultfs makes calls fail, vfs/schedfs orders the calls of concurrent
// processes; they can be put on top of each other.
package vfs

import (
	"errors"
	"io"
	"io/fs"
	"time"
)

// ErrLocked is wrapped when a lock cannot be had now because another holder
// has a conflicting one.
var ErrLocked = errors.New("locked by another process or operation")

// ErrNoLocks is wrapped when the file system offers no locks, as some network
// file systems do.
var ErrNoLocks = errors.New("the file system offers no such locks")

// FS is a file system rooted at a datastore's base directory. All methods are
// safe for concurrent use.
type FS interface {
	// Open opens a regular file for reading. Anything else (directory,
	// symbolic link, device) is an error.
	Open(name string) (File, error)
	// Create creates a regular file that must not exist, for reading and
	// writing, with exactly these permissions (no umask).
	Create(name string, perm fs.FileMode) (File, error)
	// Mkdir makes one directory with exactly these permissions.
	Mkdir(name string, perm fs.FileMode) error
	// Rename replaces newName by oldName in one step. Within one file system
	// only. A file replaces a file; a directory needs a name that is free
	// (some systems let it replace an empty directory).
	Rename(oldName, newName string) error
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// ReadDir lists a directory, sorted by the bytes of the names, without "."
	// and "..". The type of an entry is that at some moment during the call.
	ReadDir(name string) ([]DirEntry, error)
	// Lstat describes a name without following a symbolic link.
	Lstat(name string) (Info, error)
	// Touch sets the access time of a name to now and leaves the
	// modification time alone.
	Touch(name string) error
	// SyncDir makes the entries of one directory durable.
	SyncDir(name string) error
	// SyncFS makes everything durable that was done before the call. After an
	// error nobody knows what was lost; [OS] on Linux then refuses every later
	// SyncFS, until the file system is opened again.
	SyncFS() error
	// LockRange takes a lock on the byte range [off, off+length) of a regular
	// file that exists; length 0 means to the end of all bytes. The bytes need
	// not exist. It never waits: it fails with ErrLocked, and who wants to wait
	// asks again. The lock conflicts with POSIX record locks of other programs,
	// and with every other LockRange result, in this process too. It belongs to
	// the returned Unlocker alone and ends with the process at the latest. It is
	// on the file, not on its name: after a rename, it is where the file is. Who
	// does not ask for a lock is not stopped, except on Windows.
	LockRange(name string, off, length int64, mode LockMode) (Unlocker, error)
	// WillNeed says that the whole of a file will be read soon. It promises
	// nothing, is free to do nothing, and tells no errors. It may take as long
	// as Open takes, but does not wait for the content.
	WillNeed(name string)
	// Now is the clock that the file system stamps times with.
	Now() time.Time
	// Usage reports the capacity in bytes.
	Usage() (Usage, error)
}

// LockMode says how a lock is shared.
type LockMode int

// The lock modes.
const (
	Shared LockMode = iota
	Exclusive
)

// Unlocker is a held lock.
type Unlocker interface {
	Unlock() error
}

// File is an open regular file. One from Create reads and writes, one from Open
// only reads (and can Sync). It stays usable when its name is renamed or removed.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Writer // appends at the file's own position, which starts at 0
	io.Closer
	// Size is the current length in bytes.
	Size() (int64, error)
	// Truncate sets the length.
	Truncate(size int64) error
	// Sync makes content and length durable.
	Sync() error
	// StartWriteback asks the kernel to begin writing what is dirty. It
	// promises nothing and is free to do nothing.
	StartWriteback()
}

// DirEntry is one name in a directory.
type DirEntry struct {
	Name string
	Type fs.FileMode // type bits only: 0 for a regular file
}

// IsDir reports a directory.
func (e DirEntry) IsDir() bool { return e.Type.IsDir() }

// IsRegular reports a regular file.
func (e DirEntry) IsRegular() bool { return e.Type.IsRegular() }

// Info is what Lstat tells.
type Info struct {
	Mode         fs.FileMode // type and permission bits
	Size         int64       // bytes
	Inode        uint64      // 0 where unknown
	Atime, Mtime time.Time
	Blocks       int64 // bytes allocated; Size where unknown
}

// Usage is the capacity of a file system in bytes.
type Usage struct {
	Total, Used, Available uint64
}
