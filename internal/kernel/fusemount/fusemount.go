// Package fusemount looks at the FUSE file systems that are mounted, and takes
// them away: as root by umount(2), for others through fusermount3.
//
// A file system whose server was killed stays mounted, and all that is asked of
// it fails with "transport endpoint is not connected". [Dead] tells it from one
// that is served. [Unmount] takes both away.
//
// # Source
//
// Linux: Documentation/filesystems/fuse.rst, proc(5) for mountinfo; libfuse:
// util/fusermount.c.
package fusemount

import "errors"

// ErrBusy is wrapped when a mounted file system is in use.
var ErrBusy = errors.New("still in use")

// Mount is a FUSE file system of this process's mount table.
type Mount struct {
	Path   string // where it is mounted
	Type   string // "fuse.holdfast"
	Source string // what its server calls it
}
