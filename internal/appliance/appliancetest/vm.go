package appliancetest

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/appliance"
	"github.com/holdfast-backup/holdfast/internal/appliance/initramfs"
)

const (
	module = "github.com/holdfast-backup/holdfast/"
	tmp    = "/tmp" // in the guest; a short name leaves room for sockets' paths
)

// Spec says what the machine shall have.
type Spec struct {
	Modules  []string // loaded at boot
	Later    []string // for VM.Load
	Tools    []string // programs of the host, with their libraries
	Files    []appliance.File
	Drives   []appliance.Drive
	MemoryMB int // 0: 512
	CPUs     int // 0: 1
	Monitor  string
	Port     appliance.Port
	// Scratch is the size in MiB of an ext4 disk at /tmp. The guest's other files
	// are in its memory, where O_DIRECT is refused; so is /tmp without Scratch.
	Scratch int
}

// VM is a machine that ends with its test.
type VM struct {
	*appliance.VM
	Boot time.Duration // from Start to the agent's first word
}

// Start boots a machine, or skips the test and says why.
func Start(t *testing.T, s Spec) *VM {
	t.Helper()
	k, err := appliance.FindKernel(appliance.KernelSearch{})
	if errors.Is(err, appliance.ErrNoKernel) {
		Lack(t, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, tool := range s.Tools {
		if _, err := initramfs.FindTool(tool); err != nil {
			Lack(t, err)
		}
	}
	vm := &VM{}
	c := appliance.Config{
		Kernel: k, Init: Build(t, module+"internal/appliance/agent"),
		Modules: s.Modules, Later: s.Later, Tools: s.Tools, Files: s.Files,
		Drives: s.Drives, MemoryMB: s.MemoryMB, CPUs: s.CPUs,
		Monitor: s.Monitor, Port: s.Port,
	}
	if c.MemoryMB == 0 {
		c.MemoryMB = 512
	}
	if s.Scratch > 0 {
		c.Modules = append([]string{"ext4"}, c.Modules...)
		c.Drives = append(append([]appliance.Drive(nil), s.Drives...),
			appliance.Drive{Path: scratchDisk(t, s.Scratch), Serial: "scratch"})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	start := time.Now()
	vm.VM, err = appliance.Start(ctx, c)
	if errors.Is(err, appliance.ErrNoQEMU) {
		Lack(t, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	vm.Boot = time.Since(start)
	t.Cleanup(func() { vm.end(t) })
	for _, w := range vm.Hello.Warnings {
		t.Errorf("the guest warns: %s", w)
	}
	if s.Scratch > 0 {
		disk := "/dev/vd" + string(rune('a'+len(s.Drives)))
		if err := vm.Mount(ctx, disk, tmp, "ext4", 0, ""); err != nil {
			t.Fatal(err)
		}
	}
	return vm
}

func (vm *VM) end(t *testing.T) {
	if t.Failed() {
		t.Logf("the guest's console:\n%s", vm.Console())
	}
	if err := vm.Close(); err != nil {
		t.Errorf("the machine: %v", err)
	}
}

// Lack skips the test for want of something, or fails it when CI is "true".
func Lack(t *testing.T, reason error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%v (test/packages installs what the tests need)", reason)
	}
	t.Skipf("%v (test/packages installs what the tests need)", reason)
}

// scratchDisk makes a sparse file with an empty ext4.
func scratchDisk(t *testing.T, mib int) string {
	t.Helper()
	mkfs, err := initramfs.FindTool("mkfs.ext4")
	if err != nil {
		Lack(t, err)
	}
	name := filepath.Join(t.TempDir(), "scratch")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(int64(mib) << 20); err != nil {
		t.Fatal(err)
	}
	command(t, "", mkfs, "-q", "-F", "-E", "nodiscard", name)
	return name
}

// Build builds a command of this module as a static program for the guest and
// returns its file.
func Build(t *testing.T, pkg string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), filepath.Base(pkg))
	command(t, "", "go", "build", "-trimpath", "-tags", "netgo,osusergo", "-ldflags", "-s -w", "-o", name, pkg)
	return name
}

// command runs a program of the host to its end, with cgo off.
func command(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var stderr limited
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, stderr.b)
	}
	return string(out)
}

// limited keeps the first few KiB.
type limited struct{ b []byte }

func (l *limited) Write(p []byte) (int, error) {
	l.b = append(l.b, p[:min(len(p), 8<<10-len(l.b))]...)
	return len(p), nil
}
