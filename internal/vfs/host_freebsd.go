package vfs

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// bootIdentity does not fall back to kern.boottime, which moves when somebody
// sets the clock: held locks would look like those of an earlier boot.
func bootIdentity() string {
	id, err := unix.Sysctl("kern.boot_id")
	if err != nil {
		return unknownBoot
	}
	return id
}

func accessTime(st *syscall.Stat_t) time.Time { return time.Unix(st.Atimespec.Unix()) }
