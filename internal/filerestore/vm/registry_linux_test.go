package vm

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/kernel/process"
)

func TestNamesAreThoseOfUnits(t *testing.T) {
	const want = `qemu_root\x40pam\x4010.0.0.5\x3astore1\x3aprod-vm-100-2024\x2d05\x2d01T10\x3a00\x3a00Z`
	if got := Name("root@pam@10.0.0.5:store1", "prod", "vm/100/2024-05-01T10:00:00Z"); got != want {
		t.Errorf("%s", got)
	}
	if got := escape(".hidden"); got != `\x2ehidden` {
		t.Errorf("%s", got)
	}
}

func TestEntriesOfDeadProcessesAreDropped(t *testing.T) {
	reg, err := openRegistry(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	self, err := newMachine("/nowhere")
	if err != nil {
		t.Fatal(err)
	}
	other := self
	other.Start++ // another process had this number
	if err := reg.change(t.Context(), func(all map[string]machine) { all["dead"], all["alive"] = other, self }); err != nil {
		t.Fatal(err)
	}
	names, err := Names(t.Context(), reg.dir)
	if err != nil || !slices.Equal(names, []string{"alive"}) {
		t.Errorf("%v, %v", names, err)
	}
	if err := os.WriteFile(filepath.Join(reg.dir, mapFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Names(t.Context(), reg.dir); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("%v", err)
	}
}

func TestASecondCallerWaitsForTheFirst(t *testing.T) {
	dir := t.TempDir()
	begun, finish := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	go func() {
		_, _, err := Ensure(context.Background(), dir, "n", func(context.Context) error {
			close(begun)
			<-finish
			return errors.New("the first failed")
		})
		first <- err
	}()
	<-begun
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, _, err := Ensure(ctx, dir, "n", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	close(finish)
	if err := <-first; err == nil || err.Error() != "the first failed" {
		t.Errorf("%v", err)
	}
	if _, _, err := Ensure(t.Context(), dir, "n", func(context.Context) error { return fs.ErrPermission }); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("%v", err)
	}
}

// A process that is the machine's and does not answer makes room for another one.
func TestAMachineThatDoesNotAnswerIsKilledAndStartedAnew(t *testing.T) {
	reg, err := openRegistry(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	hung := exec.CommandContext(t.Context(), "sleep", "1000")
	if err := hung.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() { gone <- hung.Wait() }()
	m := machine{PID: hung.Process.Pid, Socket: filepath.Join(reg.dir, "nobody-listens"), Ticket: "t"}
	if m.Start, err = process.Start(m.PID); err != nil {
		t.Fatal(err)
	}
	if err := reg.change(t.Context(), func(all map[string]machine) { all["n"] = m }); err != nil {
		t.Fatal(err)
	}
	list, err := List(t.Context(), reg.dir)
	if err != nil || len(list) != 1 || list[0].PID != m.PID || list[0].Error == "" {
		t.Errorf("%+v, %v", list, err)
	}
	again := errors.New("started anew")
	if _, _, err := Ensure(t.Context(), reg.dir, "n", func(context.Context) error { return again }); !errors.Is(err, again) {
		t.Errorf("%v", err)
	}
	if err := <-gone; err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("it ended by %v", err)
	}
	if names, err := Names(t.Context(), reg.dir); err != nil || len(names) > 0 {
		t.Errorf("%v, %v", names, err)
	}
}

func TestMoreDisksTakeMoreMemory(t *testing.T) {
	for disks, want := range map[int]int{1: 320, 9: 320, 10: 448, 20: 448, 128: 664} {
		if got := memoryFor(disks); got != want {
			t.Errorf("%d disks: %d MiB, want %d", disks, got, want)
		}
	}
}

func TestAMachineIsRefusedWhereTheHostHasNoMemoryForIt(t *testing.T) {
	if err := roomFor(320); err != nil {
		t.Error(err)
	}
	if err := roomFor(1 << 30); err == nil || !strings.Contains(err.Error(), "MiB to give") {
		t.Errorf("%v", err)
	}
	if kib, ok := available("MemTotal:  5 kB\nMemAvailable:   123456 kB\n"); !ok || kib != 123456 {
		t.Errorf("%d, %t", kib, ok)
	}
	if _, ok := available("nothing of it\n"); ok {
		t.Error("found")
	}
}
