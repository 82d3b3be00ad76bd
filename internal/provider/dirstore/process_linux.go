package dirstore

import (
	"os/exec"
	"syscall"
)

// ownGroup keeps a program away from the terminal's signals, which are for us,
// and lets it die with us.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
