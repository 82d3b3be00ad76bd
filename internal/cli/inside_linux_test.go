package cli

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// inside HOST COMMAND ARGS... runs a command as the root of a user namespace
// whose 65536 users and groups are those from HOST on. In there it may reach the
// script's directory, and write what belongs to these users.
func inside(ts *testscript.TestScript, neg bool, args []string) {
	host, err := strconv.Atoi(args[0])
	ts.Check(err)
	work := ts.Getenv("WORK")
	for dir := work; filepath.Dir(dir) != filepath.Clean(os.TempDir()) && len(dir) > 1; dir = filepath.Dir(dir) {
		ts.Check(os.Chmod(dir, 0o755))
		ts.Check(os.Chmod(filepath.Dir(dir), 0o755))
	}
	program := args[1]
	if program == "pxar" || program == "holdfast" {
		program = ownProgram(ts, work, program)
	}
	cmd := exec.Command(program, args[2:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "HOME=" + work, "TZ=UTC"}
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: host, Size: 65536}}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
		Credential: &syscall.Credential{},
	}
	out, err := cmd.CombinedOutput()
	ts.Logf("%s", out)
	if (err != nil) != neg {
		ts.Fatalf("inside: %s: %v", strings.Join(args, " "), err)
	}
}

// loopmount IMAGE DIR mounts a file system in a file, until the script ends.
func loopMount(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[1])
	ts.Defer(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil && !strings.Contains(string(out), "not mounted") {
			ts.Logf("umount %s: %v %s", dir, err, out)
		}
	})
	ts.Check(ts.Exec("mount", "-o", "loop", args[0], dir))
}

// unfreeze DIR... takes append only and immutable off, when the script ends, of
// what mktree.py made there or what was extracted of it: else nobody removes it.
func unfreeze(ts *testscript.TestScript, _ bool, args []string) {
	ts.Defer(func() {
		for _, dir := range args {
			_ = exec.Command("python3", filepath.Join(ts.Getenv("CHECK"), "mktree.py"), "--release", ts.MkAbs(dir)).Run() // it may not be there
		}
	})
}

// ownProgram puts this program where others can run it.
func ownProgram(ts *testscript.TestScript, work, name string) string {
	to := filepath.Join(work, ".inside", name)
	if _, err := os.Stat(to); err == nil {
		return to
	}
	ts.Check(os.MkdirAll(filepath.Dir(to), 0o755))
	self, err := os.Executable()
	ts.Check(err)
	from, err := os.Open(self)
	ts.Check(err)
	defer from.Close()
	f, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	ts.Check(err)
	_, err = io.Copy(f, from)
	ts.Check(err)
	ts.Check(f.Close())
	return to
}
