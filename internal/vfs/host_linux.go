package vfs

import (
	"os"
	"strings"
	"syscall"
	"time"
)

func bootIdentity() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return unknownBoot
	}
	return strings.TrimSpace(string(b))
}

func accessTime(st *syscall.Stat_t) time.Time { return time.Unix(st.Atim.Unix()) }
