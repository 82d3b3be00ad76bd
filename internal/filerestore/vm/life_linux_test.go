package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/appliance"
	"github.com/holdfast-backup/holdfast/internal/appliance/appliancetest"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// smallDisks are disks that have the same on them.
func smallDisks(t *testing.T, n int) (all []Disk) {
	t.Helper()
	name := sparse(t, t.TempDir()+"/bare", 8)
	tool(t, "", "mke2fs", "-q", "-t", "ext4", name)
	img, err := image.OpenFile(name, image.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = img.Close() })
	for i := range n {
		all = append(all, Disk{fmt.Sprintf("disk%d.img.fidx", i), img})
	}
	return all
}

// Two want the machine at the same time, and one of them has it started. It has more
// disks than a bus has slots. Then QEMU hangs, while a call is under way.
func TestAMachineThatHangsIsEndedAndItsCallersHearOfIt(t *testing.T) {
	disks := smallDisks(t, 35)
	m := newServing(t, disks, Options{paced: pace{ping: 200 * time.Millisecond, alive: 5 * time.Second, watchdog: time.Hour}})
	var clients [2]*Client
	var starts [2]bool
	var both sync.WaitGroup
	for i := range clients {
		both.Go(func() {
			var err error
			if clients[i], starts[i], err = Ensure(t.Context(), m.dir, "name", m.start); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	if t.Failed() {
		return
	}
	if starts[0] == starts[1] {
		t.Errorf("who started it: %v", starts)
	}
	for i, disk := range []string{"/disk0.img.fidx/raw", "/disk34.img.fidx/raw"} {
		if got := listing(t, clients[i].Driver(), disk); !strings.Contains(got, "lost+found") {
			t.Errorf("%s", got)
		}
	}
	signalQEMU(t, syscall.SIGSTOP)
	if _, err := clients[0].Driver().List(t.Context(), path(t, "/disk0.img.fidx/raw")); err == nil || !strings.Contains(err.Error(), "no sign of life in 5s") {
		t.Errorf("the caller hears %v", err)
	}
	if err := <-m.ended; err == nil || !strings.Contains(err.Error(), "hangs") {
		t.Errorf("%v", err)
	}
	if names, err := Names(t.Context(), m.dir); err != nil || len(names) > 0 {
		t.Errorf("%v, %v", names, err)
	}
}

// A guest whose host says nothing any more turns its own power off.
func TestAGuestThatNobodyAsksEndsByItself(t *testing.T) {
	m := newServing(t, nil, Options{paced: pace{ping: time.Hour, alive: time.Hour, watchdog: 2 * time.Second}})
	if err := m.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-m.ended; err == nil || !strings.Contains(err.Error(), "nobody asked for anything in 2s") {
		t.Errorf("%v", err)
	}
}

// A machine of another kind than the host is emulated all the way.
func TestAMachineForArm64Answers(t *testing.T) {
	k := appliance.KernelSearch{Arch: "arm64"}
	_, err := appliance.FindKernel(k)
	if err = errors.Join(err, appliance.HaveQEMU("arm64", "")); err != nil {
		appliancetest.Lack(t, err)
	}
	t.Setenv("GOARCH", "arm64")
	m := newServing(t, smallDisks(t, 1), Options{Appliance: Appliance{Arch: "arm64", Kernel: k, Init: appliancetest.Build(t, initprog)}})
	c, _, err := Ensure(t.Context(), m.dir, "name", m.start)
	if err != nil {
		t.Fatal(err)
	}
	if got := listing(t, c.Driver(), "/disk0.img.fidx/raw"); !strings.Contains(got, "lost+found") {
		t.Errorf("%s", got)
	}
	if st, err := c.Status(t.Context(), true); err != nil || !strings.HasSuffix(st.Kernel, "arm64") {
		t.Errorf("%+v, %v", st, err)
	} else {
		t.Logf("%s under %s, ready after %.1f s", st.Kernel, st.Accel, st.Boot)
	}
}

// serving is a machine that this process serves.
type serving struct {
	dir   string
	start func(context.Context) error
	ended <-chan error // Serve's error
}

func newServing(t *testing.T, disks []Disk, o Options) serving {
	t.Helper()
	if err := Possible(); err != nil {
		appliancetest.Lack(t, err)
	}
	dir, err := os.MkdirTemp("/tmp", "hf") //nolint:usetesting // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	ready, ended := make(chan struct{}), make(chan error, 1)
	o.Dir, o.Ready = dir, func() error { close(ready); return nil }
	if o.Init == "" {
		o.Init = appliancetest.Build(t, initprog)
	}
	start := func(context.Context) error {
		go func() { ended <- Serve(ctx, "name", disks, o) }()
		select {
		case <-ready:
			return nil
		case err := <-ended:
			return errors.Join(errors.New("it did not start"), err)
		}
	}
	return serving{dir, start, ended}
}
