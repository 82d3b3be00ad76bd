package mount

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// xattrServer is an attribute of the root that no list shows: the number of
// the process that serves the file system.
const xattrServer = "user.holdfast.server"

// awaitEnd is how long an unmount waits for the process to let go of the
// archive.
const awaitEnd = 10 * time.Second

// process is one that is to end.
type process struct{ fd int }

// serverOf finds the process that serves what is mounted on dir. Where that is
// not to be found out, as in another container, there is none to wait for.
func serverOf(dir string) *process {
	buf := make([]byte, 20)
	n, err := unix.Getxattr(dir, xattrServer, buf)
	if err != nil {
		return nil
	}
	pid, err := strconv.Atoi(string(buf[:n]))
	if err != nil || pid == os.Getpid() {
		return nil
	}
	mine, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil
	}
	if its, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err != nil || its != mine {
		return nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil
	}
	return &process{fd}
}

// wait waits for its end, not for ever: it may have more to do.
func (p *process) wait(ctx context.Context) {
	if p == nil {
		return
	}
	defer p.close()
	for end := time.Now().Add(awaitEnd); time.Now().Before(end) && ctx.Err() == nil; {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, 100)
		if n > 0 || err != nil && err != unix.EINTR {
			return
		}
	}
}

func (p *process) close() {
	if p != nil && p.fd >= 0 {
		_ = unix.Close(p.fd)
		p.fd = -1
	}
}
