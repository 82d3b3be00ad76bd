package libvirttest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Daemon is a running libvirtd.
type Daemon struct {
	Dir   string // all that it has; RunDir, ScratchDir and the like may lie in it
	cmd   *exec.Cmd
	ended chan struct{}
}

// Missing says why no daemon can be run here; "" when it can.
func Missing() string {
	if os.Geteuid() != 0 {
		return "a mount namespace for libvirtd needs root"
	}
	for _, tool := range []string{"libvirtd", "qemu-system-x86_64", "qemu-img", "virsh", "unshare"} {
		if _, err := lookPath(tool); err != nil {
			return tool + " is not here"
		}
	}
	return ""
}

// Require skips a test, or fails it where everything must be there.
func Require(t testing.TB) {
	t.Helper()
	if why := Missing(); why != "" {
		if MustHave() {
			t.Fatal(why)
		}
		t.Skip(why)
	}
}

// MustHave reports a place where nothing may be missing.
func MustHave() bool { return os.Getenv("CI") == "true" }

// lookPath also finds what lies where only root looks.
func lookPath(tool string) (string, error) {
	if p, err := exec.LookPath(tool); err == nil {
		return p, nil
	}
	return exec.LookPath("/usr/sbin/" + tool)
}

// setup runs in the mount namespace. QEMU's user is root there: no file has to
// change its owner.
const setup = `set -e
cd "$1"
for pair in run:/run/libvirt lib:/var/lib/libvirt etc:/etc/libvirt cache:/var/cache/libvirt log:/var/log/libvirt; do
	mkdir -p "${pair%%:*}" "${pair#*:}"
	mount --bind "${pair%%:*}" "${pair#*:}"
done
for name in passwd group; do cp /etc/$name $name; done
grep -q ^libvirt-qemu: passwd || echo libvirt-qemu:x:64055:64055::/:/usr/sbin/nologin >> passwd
grep -q ^libvirt-qemu: group || echo libvirt-qemu:x:64055: >> group
grep -q ^tss: passwd || echo tss:x:64056:64056::/:/usr/sbin/nologin >> passwd
grep -q ^tss: group || echo tss:x:64056: >> group
for name in passwd group; do mount --bind $name /etc/$name; done
cat > /etc/libvirt/qemu.conf <<END
user = "root"
group = "root"
swtpm_user = "root"
swtpm_group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
END
cat > libvirtd.conf <<END
unix_sock_dir = "$1/sock"
auth_unix_rw = "none"
auth_unix_ro = "none"
log_outputs = "3:file:$1/libvirtd.log"
END
mkdir -p sock
exec "$2" --config "$1/libvirtd.conf" --pid-file "$1/pid"
`

// Start runs a daemon in a new directory and waits until it answers. The path is
// short, for sockets lie below it.
func Start() (*Daemon, error) {
	program, err := lookPath("libvirtd")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "lv")
	if err != nil {
		return nil, err
	}
	d := &Daemon{Dir: dir}
	if err := d.start(program); err != nil {
		return nil, errors.Join(err, d.Stop())
	}
	return d, nil
}

func (d *Daemon) start(program string) error {
	out, err := os.Create(filepath.Join(d.Dir, "output"))
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	d.cmd = exec.Command("unshare", "--mount", "--propagation", "private", "bash", "-c", setup, "setup", d.Dir, program)
	d.cmd.Stdout, d.cmd.Stderr = out, out
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := d.cmd.Start(); err != nil {
		return err
	}
	d.ended = make(chan struct{})
	go func() {
		_ = d.cmd.Wait() // how it ended is in its output
		close(d.ended)
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for {
		if nc, err := net.Dial("unix", d.socket()); err == nil {
			return nc.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("libvirtd does not listen\n%s", d.log())
		case <-d.ended:
			return fmt.Errorf("libvirtd ended\n%s", d.log())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (d *Daemon) socket() string { return filepath.Join(d.Dir, "sock", "libvirt-sock") }

func (d *Daemon) log() string {
	var all strings.Builder
	for _, name := range []string{"output", "libvirtd.log"} {
		text, err := os.ReadFile(filepath.Join(d.Dir, name))
		fmt.Fprintf(&all, "%s: %v\n%s\n", name, err, text)
	}
	return all.String()
}

// QEMULogs is what the domains that were started last have to say.
func (d *Daemon) QEMULogs() string {
	out, err := exec.Command("bash", "-c", "cd "+filepath.Join(d.Dir, "log", "qemu")+" && for f in $(ls -t | head -2); do echo $f; tail -n 8 $f | cut -c -300; done").CombinedOutput()
	return fmt.Sprintf("%s%v", out, err)
}

// URI is the daemon's address.
func (d *Daemon) URI() string { return "qemu+unix:///system?socket=" + d.socket() }

// SwtpmDir is where the daemon's domains keep their TPMs, as this process sees
// it.
func (d *Daemon) SwtpmDir() string { return filepath.Join(d.Dir, "lib", "swtpm") }

// Kill ends the daemon and leaves the domains running, as a crash does.
func (d *Daemon) Kill() {
	_ = syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
	<-d.ended
}

// Stop ends the daemon and all its domains, and removes what they had.
func (d *Daemon) Stop() error {
	if d.ended != nil {
		d.Kill()
	}
	pids, _ := filepath.Glob(filepath.Join(d.Dir, "run", "qemu", "*.pid"))
	for _, p := range pids {
		var pid int
		text, _ := os.ReadFile(p)
		if _, err := fmt.Sscan(string(text), &pid); err == nil && filepath.Base(p) != "driver.pid" && pid > 1 {
			_ = syscall.Kill(pid, syscall.SIGKILL) // gone already, if not
		}
	}
	return os.RemoveAll(d.Dir)
}
