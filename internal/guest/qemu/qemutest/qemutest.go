// Package qemutest runs real QEMUs for tests: without an operating system,
// emulated, so that they start in half a second anywhere. The guest's writes are
// made through the human monitor ("qemu-io"), on the same path as a device's.
//
// Every machine has two monitors: one for what is tested, one for the test.
package qemutest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/proto/qmp"
)

// Disk is a disk of a machine.
type Disk struct {
	ID     string
	Path   string // made if it is missing
	Format string // "raw" or "qcow2"
	Size   int64  // bytes, for a new one
	// Device is virtio (the default), scsi, legacy (-drive with scsi-hd), or
	// iothread (virtio with a thread of its own).
	Device string
}

// Spec describes a machine.
type Spec struct {
	Disks []Disk
	// Paused machines do not run at all; others run their firmware for ever.
	Paused bool
	Args   []string // more of QEMU's
	// Bare machines have nothing but monitors and Args; Disks are only made.
	Bare bool
	Name string
	Wait time.Duration // longest life; 0: two minutes
}

// VM is a running QEMU.
type VM struct {
	QMP string // socket for what is tested
	PID int

	spec    Spec
	cmd     *exec.Cmd
	monitor *qmp.Client
	log     bytes.Buffer
	ended   chan struct{}
}

// Need skips a test where a program is missing, but not in CI.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is needed: %v", p, err)
			}
			t.Skipf("%s is not here", p)
		}
	}
}

// Start starts a machine for the length of a test.
func Start(t testing.TB, spec Spec) *VM {
	t.Helper()
	Need(t, "qemu-system-x86_64", "qemu-img")
	dir := shortDir(t)
	vm := &VM{QMP: filepath.Join(dir, "qmp"), spec: spec, ended: make(chan struct{})}
	test := filepath.Join(dir, "test")
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg",
		"-qmp", "unix:" + vm.QMP + ",server=on,wait=off", "-qmp", "unix:" + test + ",server=on,wait=off",
	}
	if !spec.Bare {
		args = append(args, "-machine", "q35", "-m", "32M", "-device", "virtio-scsi-pci,id=scsi", "-object", "iothread,id=thread")
	}
	if spec.Name != "" {
		args = append(args, "-name", spec.Name)
	}
	if spec.Paused {
		args = append(args, "-S")
	}
	for _, d := range spec.Disks {
		if a := d.arguments(t); !spec.Bare {
			args = append(args, a...)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), max(spec.Wait, 2*time.Minute))
	vm.cmd = exec.CommandContext(ctx, "qemu-system-x86_64", append(args, spec.Args...)...)
	vm.cmd.Stderr = &vm.log
	if err := vm.cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	vm.PID = vm.cmd.Process.Pid
	go func() {
		defer cancel()
		defer close(vm.ended)
		_ = vm.cmd.Wait()
	}()
	t.Cleanup(vm.Kill)
	vm.monitor = vm.connect(t, test)
	return vm
}

// shortDir is a directory whose sockets have short paths.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hfq")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (vm *VM) connect(t testing.TB, path string) *qmp.Client {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := qmp.Dial(t.Context(), path)
		if err == nil {
			t.Cleanup(func() { _ = c.Close() })
			return c
		}
		select {
		case <-vm.ended:
			t.Fatalf("QEMU did not start: %s", vm.log.String())
		default:
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// arguments makes the image if it is not there.
func (d Disk) arguments(t testing.TB) []string {
	t.Helper()
	if _, err := os.Stat(d.Path); errors.Is(err, os.ErrNotExist) {
		out, err := exec.CommandContext(t.Context(), "qemu-img", "create", "-q", "-f", d.Format, d.Path, fmt.Sprint(d.Size)).CombinedOutput()
		if err != nil {
			t.Fatalf("qemu-img: %v: %s", err, out)
		}
	}
	node := []string{"-blockdev", fmt.Sprintf("driver=%s,node-name=node-%s,discard=unmap,file.driver=file,file.filename=%s,file.discard=unmap", d.Format, d.ID, d.Path)}
	switch d.Device {
	case "scsi":
		return append(node, "-device", fmt.Sprintf("scsi-hd,bus=scsi.0,id=%s,drive=node-%s", d.ID, d.ID))
	case "legacy":
		return []string{
			"-drive", fmt.Sprintf("if=none,id=drive-%s,format=%s,file=%s,discard=unmap", d.ID, d.Format, d.Path),
			"-device", fmt.Sprintf("scsi-hd,bus=scsi.0,id=%s,drive=drive-%s", d.ID, d.ID),
		}
	case "iothread":
		return append(node, "-device", fmt.Sprintf("virtio-blk-pci,id=%s,drive=node-%s,iothread=thread", d.ID, d.ID))
	}
	return append(node, "-device", fmt.Sprintf("virtio-blk-pci,id=%s,drive=node-%s", d.ID, d.ID))
}

// device is how the human monitor calls a disk's device.
func (vm *VM) device(id string) string {
	for _, d := range vm.spec.Disks {
		if d.ID == id && (d.Device == "scsi" || d.Device == "legacy") {
			return "/machine/peripheral/" + id
		}
	}
	return "/machine/peripheral/" + id + "/virtio-backend"
}

// Version is QEMU's.
func (vm *VM) Version() qmp.Version { return vm.monitor.Version() }

// Run runs a command on the test's monitor.
func (vm *VM) Run(t testing.TB, command string, args, result any) {
	t.Helper()
	err := vm.monitor.Run(t.Context(), command, args, result)
	if errors.Is(err, qmp.ErrClosed) {
		t.Fatalf("%v: QEMU says: %s", err, vm.Said())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// IO is a request of the guest, in the words of qemu-io.
func (vm *VM) IO(t testing.TB, disk, command string) {
	t.Helper()
	var said string
	vm.Run(t, "human-monitor-command", map[string]any{
		"command-line": fmt.Sprintf("qemu-io -d %s %q", vm.device(disk), command),
	}, &said)
	if strings.Contains(said, "failed") || strings.Contains(said, "rror") {
		t.Fatalf("the guest's %q on %s: %s", command, disk, said)
	}
}

// Write writes a byte n times.
func (vm *VM) Write(t testing.TB, disk string, off, n int64, pattern byte) {
	t.Helper()
	vm.IO(t, disk, fmt.Sprintf("write -P %d %d %d", pattern, off, n))
}

// Zero makes a range read as zeros without taking space. A discard would too,
// but QEMU may ignore it, and does while a backup job runs.
func (vm *VM) Zero(t testing.TB, disk string, off, n int64) {
	t.Helper()
	vm.IO(t, disk, fmt.Sprintf("write -z -u %d %d", off, n))
}

// Kill ends QEMU as a crash does.
func (vm *VM) Kill() {
	_ = vm.cmd.Process.Kill()
	<-vm.ended
}

// Said is what QEMU wrote to its standard error; it is complete after the end.
func (vm *VM) Said() string {
	<-vm.ended
	return vm.log.String()
}

// Quit ends QEMU in order.
func (vm *VM) Quit(t testing.TB) {
	t.Helper()
	_ = vm.monitor.Run(t.Context(), "quit", nil, nil) // the answer may not come
	select {
	case <-vm.ended:
	case <-time.After(30 * time.Second):
		t.Fatal("QEMU does not quit")
	}
}

// Ended is closed when QEMU has ended.
func (vm *VM) Ended() <-chan struct{} { return vm.ended }

// Left lists what has a name of Holdfast in this QEMU, and open descriptors that
// came from elsewhere.
func (vm *VM) Left(t testing.TB) (left []string) {
	t.Helper()
	var nodes []struct {
		Name    string                  `json:"node-name"`
		Bitmaps []struct{ Name string } `json:"dirty-bitmaps"`
	}
	var jobs, exports []struct{ ID string }
	var objects []struct{ Name string }
	vm.Run(t, "query-named-block-nodes", map[string]any{"flat": true}, &nodes)
	vm.Run(t, "query-jobs", nil, &jobs)
	vm.Run(t, "query-block-exports", nil, &exports)
	vm.Run(t, "qom-list", map[string]any{"path": "/objects"}, &objects)
	add := func(kind, name string) {
		if strings.HasPrefix(name, "holdfast") {
			left = append(left, kind+" "+name)
		}
	}
	for _, n := range nodes {
		add("node", n.Name)
		for _, b := range n.Bitmaps {
			add("bitmap", b.Name)
		}
	}
	for _, j := range jobs {
		add("job", j.ID)
	}
	for _, e := range exports {
		add("export", e.ID)
	}
	for _, o := range objects {
		add("object", o.Name)
	}
	return left
}

// Descriptors counts the open files of QEMU.
func (vm *VM) Descriptors(t testing.TB) int {
	t.Helper()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", vm.PID))
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}
