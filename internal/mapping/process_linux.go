package mapping

import (
	"net"
	"os"

	"github.com/holdfast-backup/holdfast/internal/kernel/process"
	"golang.org/x/sys/unix"
)

// alive reports whether the record's process is the one with that number.
func (r Record) alive() bool { return process.Runs(r.PID, r.StartTime) }

// trusted reports whether the peer is this user or root.
func trusted(nc net.Conn) bool {
	u, ok := nc.(*net.UnixConn)
	if !ok {
		return false
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return false
	}
	var cred *unix.Ucred
	if e := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); e != nil || err != nil {
		return false
	}
	return cred.Uid == 0 || int(cred.Uid) == os.Geteuid()
}
