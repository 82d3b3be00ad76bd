package provider

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/kernel/process"
	"golang.org/x/sys/unix"
)

// ProcessOf names the process that a file with its number belongs to, so that no
// other process ever has the same name on this boot: "PID-START", with the start
// in clock ticks since boot. It is "" if there is no such process.
func ProcessOf(pidFile string) (string, error) {
	b, err := os.ReadFile(pidFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("process of the machine: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid < 1 {
		return "", fmt.Errorf("process of the machine: %s holds no process number", pidFile)
	}
	return processName(pid)
}

func processName(pid int) (string, error) {
	start, err := process.Start(pid)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("process of the machine: %w", err)
	}
	return fmt.Sprintf("%d-%d", pid, start), nil
}

// processBehind names the process that listens on a unix socket.
func processBehind(c net.Conn) (string, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return "", errors.New("process of the machine: not a unix socket")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return "", err
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) { cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return "", err
	}
	if cerr != nil {
		return "", fmt.Errorf("process of the machine: %w", cerr)
	}
	return processName(int(cred.Pid))
}

// ScratchName is the name of this process's directory in a common place.
func ScratchName() (string, error) { return processName(os.Getpid()) }

// alive reports whether the process that a name stands for still runs; what is no
// such name belongs to nobody we know and counts as alive.
func alive(name string) bool {
	pid, err := strconv.Atoi(strings.SplitN(name, "-", 2)[0])
	if err != nil || pid < 1 || !strings.Contains(name, "-") {
		return true
	}
	now, err := processName(pid)
	return err != nil || now == name
}
