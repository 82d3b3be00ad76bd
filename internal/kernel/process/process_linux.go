package process

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Start is when a process began. If there is none with this number the error is
// fs.ErrNotExist, or, while it ends, unix.ESRCH.
func Start(pid int) (uint64, error) {
	_, start, err := stat(pid)
	return start, err
}

// stat is a process' state, as a letter, and when it began.
func stat(pid int) (state string, start uint64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0, err
	}
	s := string(b) // the second field may hold spaces and brackets
	fields := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if len(fields) < 20 {
		return "", 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields)+2)
	}
	start, err = strconv.ParseUint(fields[22-3], 10, 64)
	return fields[0], start, err
}

// Runs reports whether the process that began then runs: one that has ended and that
// nobody has waited for yet does not.
func Runs(pid int, start uint64) bool {
	state, now, err := stat(pid)
	return err == nil && now == start && state != "Z" && state != "X"
}

// Kill ends the process that began then, and no other that has its number by now.
// Who has ended already is no error; neither this process nor the first one is
// killed.
func Kill(pid int, start uint64) error {
	if pid <= 1 || pid == os.Getpid() {
		return fmt.Errorf("process %d is not to be killed", pid)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if !Runs(pid, start) { // compared after the number was pinned
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	return nil
}
