//go:build unix

package nbdserver

import (
	"sync"

	"golang.org/x/sys/unix"
)

// umasks orders changes of the process's umask.
var umasks sync.Mutex

// privately runs f while what is created is the owner's alone.
func privately(f func() error) error {
	umasks.Lock()
	defer umasks.Unlock()
	old := unix.Umask(0o177)
	defer unix.Umask(old)
	return f()
}
