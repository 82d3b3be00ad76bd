package process

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// epoch says which run of the kernel this is and which of its process tables we are
// in: a container has one of its own, and often the host's name. start is when
// the process began.
func epoch() (boot string, start uint64) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", 0
	}
	space, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return "", 0
	}
	start, err = started(os.Getpid())
	if err != nil {
		return "", 0
	}
	return strings.TrimSpace(string(id)) + " " + space, start
}

// started is the clock tick in which a process began.
func started(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name is in parentheses, and may hold some.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	const starttime = 22 - 3 // proc(5) counts from 1, and these are from the third on
	if len(fields) <= starttime {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	return strconv.ParseUint(fields[starttime], 10, 64)
}

// vanished reports whether no process has this number, or one that began at
// another time.
func vanished(pid int, start uint64) bool {
	at, err := started(pid)
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	return err == nil && at != start
}
