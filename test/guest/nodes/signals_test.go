//go:build linux

package nodes

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/sg"
)

// play is what the test binary does in a role. It prints what came of it.
func play(role string) int {
	what, with, _ := strings.Cut(role, " ")
	var err error
	switch what {
	case "target":
		err = playTarget(with)
	case "client":
		err = playClient(with)
	default:
		err = playHost(what, with)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("done")
	return 0
}

// playHost sends one command to a node, and handles signals as programs do.
func playHost(what, node string) (err error) {
	signal.Notify(make(chan os.Signal, 99), unix.SIGUSR1, unix.SIGTERM, unix.SIGCHLD, unix.SIGWINCH)
	var d *sg.Device
	if node == "inherited" { // which the kernel calls another security context
		d, err = sg.FromFile(os.NewFile(3, node))
	} else {
		d, err = sg.Open(node)
	}
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	c := scsi.Command{CDB: []byte{byte(scsi.Rewind), 0, 0, 0, 0, 0}, Timeout: time.Minute}
	if what == "key" {
		c.CDB, c.Dir = []byte{0xb5, 0x20, 0, 0x10, 0, 0, 0, 0, 0, 0x14, 0, 0}, scsi.Out
		c.Data = []byte{0, 0x10, 0, 0x10, 0x40, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	}
	_, err = d.Do(c)
	return err
}

// player starts the test binary in a role.
func player(role string, files ...*os.File) (*exec.Cmd, *bytes.Buffer) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleOf+"="+role)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = &out, os.Stderr, files
	return cmd, &out
}

// pelt fires signals at a process while its command runs, at each thread of it.
func pelt(t *testing.T, pid int, signals ...unix.Signal) {
	t.Helper()
	for range 3 {
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range signals {
			for _, th := range threads {
				var tid int
				_, _ = fmt.Sscan(th.Name(), &tid) // a name of digits
				if err := unix.Tgkill(pid, tid, s); err != nil && !errors.Is(err, unix.ESRCH) {
					t.Fatal(err)
				}
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// signalled has another process send a command, fires signals at it while the
// command runs, and returns how often the unit saw it.
func signalled(t *testing.T, w *watched, d *sg.Device, node string, signals ...unix.Signal) int {
	t.Helper()
	release := make(chan struct{})
	w.hold(scsi.Rewind, func() { <-release })
	before := w.seen(scsi.Rewind)
	cmd, out := player("rewind "+node, d.File())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-w.begun
	pelt(t, cmd.Process.Pid, signals...)
	close(release)
	if err := cmd.Wait(); err != nil || out.String() != "done\n" {
		t.Errorf("it said %q: %v", out, err)
	}
	return w.seen(scsi.Rewind) - before
}

func TestNoSignalRepeatsACommand(t *testing.T) {
	w := watch(newDrive(t, "DRV0000007"))
	_, nodes := attach(t, w)
	d := open(t, nodes[0].Generic)
	handled := []unix.Signal{unix.SIGUSR1, unix.SIGURG, unix.SIGTERM, unix.SIGCHLD, unix.SIGWINCH}
	if n := signalled(t, w, d, nodes[0].Generic, append(handled, unix.SIGSTOP, unix.SIGCONT)...); n != 1 {
		t.Errorf("the unit saw the command %d times", n)
	}
	if n := signalled(t, w, d, "inherited", handled...); n != 1 {
		t.Errorf("the unit saw the command %d times by another's descriptor", n)
	}
	// What write and read guard against is real.
	if n := signalled(t, w, d, "inherited", unix.SIGSTOP, unix.SIGCONT); n < 2 {
		t.Errorf("the unit saw the ioctl %d times: nothing repeats it any more", n)
	}
}

func TestNodesAreUsedByTheirGroup(t *testing.T) {
	_, nodes := attach(t, newDrive(t, "DRV0000009"))
	node := nodes[0].Generic
	d := open(t, node)
	if err := errors.Join(os.Chown(node, 0, tapeGroup), os.Chmod(node, 0o660)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(os.Args[0], 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, node string
		groups     []uint32
		want       string
	}{
		{"a member", node, []uint32{tapeGroup}, "done\n"},
		{"anyone else", node, nil, "its group, often tape, may use it"},
		{"anyone else who is given a descriptor", "inherited", nil, "done\n"},
	} {
		cmd, out := player("key "+tc.node, d.File())
		as(cmd, backupUser, tc.groups...)
		_ = cmd.Run() // what it says is what counts
		if !strings.Contains(out.String(), tc.want) {
			t.Errorf("%s: %q, want %q", tc.name, out, tc.want)
		}
	}
}

func TestDescriptorsThatWouldNotDoAreRefused(t *testing.T) {
	_, nodes := attach(t, newDrive(t, "DRV0000010"))
	for name, want := range map[string]string{
		nodes[0].Generic:   "not open for reading and writing",
		nodes[0].Kernel[0]: "tape driver st",
		"/dev/null":        "major number is 1",
	} {
		f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := sg.FromFile(f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
		_ = f.Close()
	}
}
