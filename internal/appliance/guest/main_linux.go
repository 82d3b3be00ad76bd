package guest

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// agentArg makes the program the agent instead of process 1.
const agentArg = "agent"

// Main is the appliance's /init. It returns only what the agent exits with, or
// when it is called outside of an appliance.
func Main() int {
	switch {
	case len(os.Args) > 1 && os.Args[1] == agentArg:
		if err := agent(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "holdfast: agent:", err)
			return 1
		}
		return 0
	case os.Getpid() == 1:
		boot()
		return 1 // not reached: the power is off
	}
	fmt.Fprintln(os.Stderr, "this program is the inside of the appliance and runs as its process 1 only")
	return 2
}

// boot is process 1.
func boot() {
	fmt.Println(Ready)
	warnings := prepare()
	for _, w := range warnings {
		fmt.Println("holdfast:", w)
	}
	self, err := os.StartProcess(Init, append([]string{Init, agentArg}, warnings...), &os.ProcAttr{
		Env: []string{
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"HOME=/root", "TMPDIR=/tmp", "LANG=C.UTF-8",
		},
		Dir:   "/",
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
	})
	if err != nil {
		fmt.Println("holdfast: start the agent:", err)
		powerOff()
	}
	reapUntil(self.Pid)
	powerOff()
}

// reapUntil waits for children, its own and those it inherits, until pid ends.
func reapUntil(pid int) {
	for {
		var ws unix.WaitStatus
		got, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			fmt.Println("holdfast: wait:", err)
			return
		case got == pid:
			if ws.ExitStatus() != 0 {
				fmt.Printf("holdfast: the agent ended: status %d, signal %d\n", ws.ExitStatus(), ws.Signal())
			}
			return
		}
	}
}

func powerOff() {
	unix.Sync()
	err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	panic(err) // process 1 ends, the kernel panics, QEMU exits
}

// prepare makes the root file system usable. What fails is a warning.
func prepare() (warnings []string) {
	warn := func(err error) {
		if err != nil {
			warnings = append(warnings, err.Error())
		}
	}
	for _, m := range []struct {
		source, target, fstype string
		flags                  uintptr
		data                   string
	}{
		{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"sysfs", "/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755"},
		{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=0620,ptmxmode=0666"},
		{"tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
		{"tmpfs", "/tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	} {
		warn(mount(m.source, m.target, m.fstype, m.flags, m.data))
	}
	for name, target := range map[string]string{
		"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0",
		"/dev/stdout": "/proc/self/fd/1", "/dev/stderr": "/proc/self/fd/2",
		"/etc/mtab": "/proc/self/mounts", // umount and fusermount3 read it
	} {
		if err := os.Symlink(target, name); err != nil && !os.IsExist(err) {
			warn(err)
		}
	}
	warn(unix.Sethostname([]byte("appliance")))
	warn(loopback())
	list, err := os.ReadFile(ModuleList)
	if err != nil && !os.IsNotExist(err) {
		warn(err)
	}
	warnings = append(warnings, loadModules(strings.Fields(string(list)))...)
	if err := os.Chmod("/dev/fuse", 0o666); err != nil && !os.IsNotExist(err) { // as udev does: users may use it
		warn(err)
	}
	return warnings
}

func mount(source, target, fstype string, flags uintptr, data string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(source, target, fstype, flags, data); err != nil {
		return fmt.Errorf("mount %s (%s) on %s: %w", source, fstype, target, err)
	}
	return nil
}

// loopback brings up the interface lo, for programs that talk to themselves.
func loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("interface lo: %w", err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("interface lo: %w", err)
	}
	return nil
}
