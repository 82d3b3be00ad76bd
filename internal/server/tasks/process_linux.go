package tasks

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// process is one of this machine's processes.
type process struct {
	pid   int
	start uint64 // clock ticks since boot
}

func thisProcess() process {
	pid := os.Getpid()
	start, _ := startOf(pid) // 0 where /proc is not mounted
	return process{pid, start}
}

// startOf returns when a process began.
func startOf(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name of the program, in parentheses, may hold anything.
	_, rest, _ := cutLast(string(b), ")")
	fields := strings.Fields(rest)
	const at = 22 - 3 // the state, behind the name, is field 3
	if len(fields) <= at {
		return 0, errors.New("/proc/PID/stat has too few fields")
	}
	return strconv.ParseUint(fields[at], 10, 64)
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// running reports whether a process lives.
func running(p process) bool {
	start, err := startOf(p.pid)
	return err == nil && start == p.start
}

// lockFile waits for a lock on a file and returns how to release it.
func lockFile(path string) (func() error, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return f.Close, nil
}
