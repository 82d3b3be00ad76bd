package guest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/appliance"
	"github.com/holdfast-backup/holdfast/internal/appliance/appliancetest"
)

// bootLimit is what a boot may take under TCG, from the building of the initramfs to the agent.
const bootLimit = 10 * time.Second

// ctx bounds one step in the guest.
func ctx(t *testing.T) context.Context {
	t.Helper()
	c, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("a step in the guest took a minute"))
	t.Cleanup(cancel)
	return c
}

func TestMachine(t *testing.T) {
	vm := appliancetest.Start(t, appliancetest.Spec{
		Tools: []string{"cat", "sleep", "sh", "echo", "ps", "dd"}, MemoryMB: 256, Modules: []string{"vsock_loopback"},
	})
	t.Logf("%s under %s: ready after %v, %.1f s of it in the guest's kernel", vm.Hello.Kernel, vm.Accel, vm.Boot, vm.Hello.Uptime)
	if vm.Boot > bootLimit { // the host may be busy for a moment
		again := appliancetest.Start(t, appliancetest.Spec{MemoryMB: 256})
		if again.Boot > bootLimit {
			t.Errorf("two boots took %v and %v, at most %v is wanted", vm.Boot, again.Boot, bootLimit)
		}
	}
	t.Run("commands say how they ended", func(t *testing.T) { commandsEnd(t, vm) })
	t.Run("input and both outputs", func(t *testing.T) { commandsTalk(t, vm) })
	t.Run("many at once", func(t *testing.T) { commandsAtOnce(t, vm) })
	t.Run("a cancelled command dies with its children", func(t *testing.T) { commandCancelled(t, vm) })
	t.Run("orphans are reaped", func(t *testing.T) { orphans(t, vm) })
	t.Run("files go in and out", func(t *testing.T) { files(t, vm) })
	t.Run("a module that was not given is named", func(t *testing.T) {
		if err := vm.Load(ctx(t), "nbd"); err == nil || !strings.Contains(err.Error(), "nbd") {
			t.Fatalf("err = %v", err)
		}
	})
	for _, pkg := range []string{"internal/kernel/vsock", "internal/appliance/guest"} {
		t.Run(pkg, func(t *testing.T) { vm.TestBinary(t, appliancetest.Tests{Package: module + pkg}) })
	}
	t.Run("internal/kernel/dm, which is missing", func(t *testing.T) {
		vm.TestBinary(t, appliancetest.Tests{Package: module + "internal/kernel/dm", Run: "KernelWithoutDeviceMapper"})
	})
	t.Run("a command that takes all memory is ended, and the machine goes on", func(t *testing.T) {
		r, err := vm.Run(ctx(t), appliance.Cmd{Args: []string{
			"sh", "-c", "echo 1 >/proc/sys/vm/overcommit_memory; exec dd if=/dev/zero of=/dev/null bs=400M count=1",
		}})
		if err != nil || r.Signal != "killed" || !strings.Contains(vm.Console(), "Out of memory") {
			t.Fatalf("%+v, %v", r, err)
		}
		if err := vm.Ping(ctx(t)); err != nil {
			t.Error(err)
		}
	})
	t.Run("a panic of the guest's kernel is told", func(t *testing.T) { kernelPanic(t, vm) }) // the last one
}

func commandsEnd(t *testing.T, vm *appliancetest.VM) {
	for _, tc := range []struct {
		args []string
		want appliance.Result
	}{
		{[]string{"sh", "-c", "exit 0"}, appliance.Result{}},
		{[]string{"sh", "-c", "exit 7"}, appliance.Result{Code: 7}},
		{[]string{"sh", "-c", "kill -9 $$"}, appliance.Result{Code: -1, Signal: "killed"}},
	} {
		got, err := vm.Run(ctx(t), appliance.Cmd{Args: tc.args})
		if err != nil || got != tc.want {
			t.Errorf("%q: %+v, %v; want %+v", tc.args, got, err, tc.want)
		}
	}
	if _, err := vm.Run(ctx(t), appliance.Cmd{Args: []string{"no-such-program"}}); err == nil ||
		!strings.Contains(err.Error(), "no-such-program") {
		t.Errorf("a missing program: %v", err)
	}
}

func commandsTalk(t *testing.T, vm *appliancetest.VM) {
	var out, serr bytes.Buffer
	r, err := vm.Run(ctx(t), appliance.Cmd{
		Args: []string{"sh", "-c", "pwd; echo $WORD; cat; echo oops >&2"}, Dir: "/proc", Env: []string{"WORD=hello"},
		Stdin: strings.NewReader("input\n"), Stdout: &out, Stderr: &serr,
	})
	if err != nil || r.Err() != nil || out.String() != "/proc\nhello\ninput\n" || serr.String() != "oops\n" {
		t.Fatalf("%+v, %v, out %q, err %q", r, err, out.String(), serr.String())
	}
	// One that does not read its input ends all the same.
	r, err = vm.Run(ctx(t), appliance.Cmd{Args: []string{"sh", "-c", "exit 3"}, Stdin: neverEnds{}})
	if err != nil || r.Code != 3 {
		t.Fatalf("%+v, %v", r, err)
	}
}

type neverEnds struct{}

func (neverEnds) Read(p []byte) (int, error) { return len(p), nil }

func commandsAtOnce(t *testing.T, vm *appliancetest.VM) {
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			out, err := vm.Output(ctx(t), "echo", strconv.Itoa(i))
			if err != nil || strings.TrimSpace(string(out)) != strconv.Itoa(i) {
				t.Errorf("command %d: %q, %v", i, out, err)
			}
		})
	}
	wg.Wait()
}

func commandCancelled(t *testing.T, vm *appliancetest.VM) {
	c, cancel := context.WithCancelCause(ctx(t))
	enough := errors.New("enough")
	out := &trigger{fire: func() { cancel(enough) }}
	start := time.Now()
	_, err := vm.Run(c, appliance.Cmd{Args: []string{"sh", "-c", "sleep 1234 & echo up; wait"}, Stdout: out})
	if !errors.Is(err, enough) {
		t.Fatalf("err = %v", err)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("it took %v to cancel", took)
	}
	list, err := vm.Output(ctx(t), "ps", "-A", "-o", "args")
	if err != nil || strings.Contains(string(list), "sleep 1234") {
		t.Fatalf("still running: %v\n%s", err, list)
	}
}

// trigger fires at the first write.
type trigger struct {
	once sync.Once
	fire func()
}

func (w *trigger) Write(p []byte) (int, error) {
	w.once.Do(w.fire)
	return len(p), nil
}

func orphans(t *testing.T, vm *appliancetest.VM) {
	if _, err := vm.Output(ctx(t), "sh", "-c", "for i in 1 2 3 4 5; do (sh -c 'exit 1' &); done"); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		list, err := vm.Output(ctx(t), "ps", "-A", "-o", "stat,ppid,args")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(list), "<defunct>") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nobody waits for them:\n%s", list)
		}
	}
}

func files(t *testing.T, vm *appliancetest.VM) {
	data := make([]byte, 16<<20+7)
	_, _ = rand.Read(data)
	start := time.Now()
	if err := vm.Put(ctx(t), "/tmp/deep/down/file", 0o640, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	in := time.Since(start)
	var got bytes.Buffer
	if err := vm.Get(ctx(t), "/tmp/deep/down/file", &got); err != nil || !bytes.Equal(got.Bytes(), data) {
		t.Fatalf("%d bytes of %d came back, %v", got.Len(), len(data), err)
	}
	t.Logf("%d MiB in %v, out %v", len(data)>>20, in, time.Since(start)-in)
	if err := vm.Get(ctx(t), "/tmp/missing", io.Discard); err == nil || !strings.Contains(err.Error(), "/tmp/missing") {
		t.Errorf("a missing file: %v", err)
	}
	broken := errors.New("this source is broken")
	err := vm.Put(ctx(t), "/tmp/half", 0o600, io.MultiReader(strings.NewReader("half"), failing{broken}))
	if !errors.Is(err, broken) {
		t.Errorf("a broken source: %v", err)
	}
	list, err := vm.Output(ctx(t), "sh", "-c", "echo /tmp/* /tmp/.put*")
	if err != nil || strings.Contains(string(list), "half") || strings.Contains(string(list), "/tmp/.put-") {
		t.Errorf("half a file is left: %s, %v", list, err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func kernelPanic(t *testing.T, vm *appliancetest.VM) {
	_, err := vm.Run(ctx(t), appliance.Cmd{Args: []string{"sh", "-c", "echo c >/proc/sysrq-trigger"}})
	if err == nil || !strings.Contains(err.Error(), "sysrq") {
		t.Fatalf("err = %v, want the console's last lines", err)
	}
	select {
	case <-vm.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("QEMU goes on")
	}
	if _, err := vm.Output(ctx(t), "true"); err == nil {
		t.Fatal("a command ran in a dead machine")
	}
}

// What keeps a machine from starting is told with what the console says.
func TestBootThatFailsShowsTheConsole(t *testing.T) {
	k, err := appliance.FindKernel(appliance.KernelSearch{})
	if err != nil {
		appliancetest.Lack(t, err)
	}
	notInit := t.TempDir() + "/init"
	if err := os.WriteFile(notInit, []byte("this is no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err = appliance.Start(ctx(t), appliance.Config{Kernel: k, Init: notInit, Accel: appliance.AccelTCG})
	if errors.Is(err, appliance.ErrNoQEMU) {
		appliancetest.Lack(t, err)
	}
	if err == nil || !strings.Contains(err.Error(), "Kernel panic") {
		t.Fatalf("err = %v", err)
	}
	_, err = appliance.Start(ctx(t), appliance.Config{
		Kernel: k, Init: notInit, Accel: appliance.AccelTCG,
		Drives: []appliance.Drive{{Path: "nbd+unix:///?socket=/nowhere/socket"}},
	})
	if err == nil || !strings.Contains(err.Error(), "/nowhere/socket") {
		t.Fatalf("a drive that cannot be opened: %v", err)
	}
	_, err = appliance.Start(ctx(t), appliance.Config{Kernel: k, Init: notInit, QEMU: "qemu-system-nothing"})
	if !errors.Is(err, appliance.ErrNoQEMU) || !strings.Contains(fmt.Sprint(err), "qemu-system-x86") {
		t.Fatalf("without QEMU: %v", err)
	}
}
