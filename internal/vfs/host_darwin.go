package vfs

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func bootIdentity() string {
	id, err := unix.Sysctl("kern.bootsessionuuid")
	if err != nil {
		return unknownBoot
	}
	return id
}

func accessTime(st *syscall.Stat_t) time.Time { return time.Unix(st.Atimespec.Unix()) }
