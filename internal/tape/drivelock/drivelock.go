// Package drivelock keeps a drive, or a changer, to one user at a time.
//
// A lock is an exclusive flock(2) on a file that stays; it ends with the
// process that holds it. The server's programs and PBS take the same lock for
// the same device: /run/proxmox-backup/drive-lock/ and the path of the device
// node in systemd's escaped form.
//
// Errors wrap [tape.ErrBusy] when the lock was not free for 10 seconds.
package drivelock

import (
	"path/filepath"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/unitname"
)

// Dir is where the locks of a server's drives are.
const Dir = "/run/proxmox-backup/drive-lock"

// wait is how long Lock waits.
const wait = 10 * time.Second

// Path is the lock file of a device in a directory of locks.
func Path(dir, device string) string {
	return filepath.Join(dir, unitname.EscapePath(device))
}

// Lock is a lock that is held.
type Lock struct{ close func() error }

// Unlock gives the lock back.
func (l *Lock) Unlock() error { return l.close() }
