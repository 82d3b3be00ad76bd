package dm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/kernel/loop"
	"golang.org/x/sys/unix"
)

// control opens the device-mapper of the guest that exists for these tests: that of
// the host is not ours to play with.
func control(t *testing.T) *Control {
	t.Helper()
	if os.Getenv("HOLDFAST_GUEST") != "1" {
		t.Skip("runs in a machine of its own, see test/guest")
	}
	c, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// dmsetup is the independent view.
func dmsetup(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "dmsetup", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("dmsetup %q: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// disk is a loop device over some content.
func disk(t *testing.T, content []byte) (path string, dev uint64) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, err := loop.Attach(t.Context(), int(f.Fd()), loop.Options{Number: loop.AnyNumber, AutoClear: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d.Path(), unix.Mkdev(loop.Major, uint32(d.Number()))
}

func number(dev uint64) string { return fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev)) }

// create makes a device that goes with the test.
func create(t *testing.T, c *Control, name, uuid string, table ...Target) Info {
	t.Helper()
	i, err := c.Create(t.Context(), name, uuid, table, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Remove(context.Background(), name, 2*time.Second); err != nil && !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
	})
	return i
}

func TestDeviceIsWhatDmsetupSays(t *testing.T) {
	c := control(t)
	content := bytes.Repeat([]byte("0123456789abcdef"), 64)
	_, dev := disk(t, content)
	table := Target{0, 1, "linear", number(dev) + " 1"}
	i := create(t, c, "one", "HOLDFAST-one", table)
	if got, want := dmsetup(t, "table", "one"), table.String(); got != want {
		t.Errorf("dmsetup: %s, want %s", got, want)
	}
	if got := dmsetup(t, "info", "-c", "--noheadings", "-o", "name,uuid,major,minor,attr", "one"); got != "one:HOLDFAST-one:"+number(i.Device)+":L--w" {
		t.Errorf("dmsetup: %s", got)
	}
	if got, err := c.Table("one"); err != nil || len(got) != 1 || got[0] != table {
		t.Errorf("%v, %v", got, err)
	}
	got, err := os.ReadFile(Path("one"))
	if err != nil || !bytes.Equal(got, content[512:]) {
		t.Errorf("%q, %v", got, err)
	}
	list, err := c.List()
	if err != nil || !slices.Contains(list, Named{"one", i.Device}) {
		t.Errorf("%v, %v", list, err)
	}
	if i.Open != 0 || !i.Active || i.ReadOnly || i.UUID != "HOLDFAST-one" {
		t.Errorf("%+v", i)
	}
}

func TestOpenDeviceStaysUntilItIsClosed(t *testing.T) {
	c := control(t)
	_, dev := disk(t, make([]byte, 1024))
	create(t, c, "busy", "", Target{0, 1, "linear", number(dev) + " 1"})
	f, err := os.Open(Path("busy"))
	if err != nil {
		t.Fatal(err)
	}
	if i, err := c.Info("busy"); err != nil || i.Open != 1 {
		t.Errorf("%+v, %v", i, err)
	}
	if err := c.Remove(t.Context(), "busy", 0); !errors.Is(err, ErrBusy) {
		t.Errorf("%v", err)
	}
	gone := make(chan error)
	go func() { gone <- c.Remove(t.Context(), "busy", time.Minute) }()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-gone; err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(Path("busy")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the node is still there: %v", err)
	}
	if _, err := c.Info("busy"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if err := c.Remove(t.Context(), "busy", time.Minute); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

func TestCreateThatFailsLeavesNothing(t *testing.T) {
	c := control(t)
	path, dev := disk(t, make([]byte, 4096))
	claim, err := os.OpenFile(path, os.O_RDONLY|unix.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	good := Target{0, 1, "linear", number(dev) + " 1"}
	_, err = c.Create(t.Context(), "x", "", []Target{good}, false)
	if !errors.Is(err, ErrBusy) {
		t.Errorf("over a claimed device: %v", err)
	}
	if err := claim.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = c.Create(t.Context(), "x", "", []Target{{0, 1, "nonsense", ""}}, false)
	if n, ok := errors.AsType[*NoTargetError](err); !ok || n.Type != "nonsense" {
		t.Errorf("unknown target: %v", err)
	}
	for _, table := range [][]Target{{{0, 100, "linear", number(dev) + " 1"}}, {{1, 1, "error", ""}}, {{0, 1, "linear", "secret"}}} {
		_, err := c.Create(t.Context(), "x", "", table, false)
		if !errors.Is(err, unix.EINVAL) {
			t.Errorf("%v: %v", table, err)
		}
		if params := table[0].Params; params != "" && strings.Contains(err.Error(), params) {
			t.Errorf("parameters, which may be keys, are told: %v", err)
		}
	}
	create(t, c, "taken", "HOLDFAST-taken", good)
	if _, err := c.Create(t.Context(), "taken", "", []Target{{0, 1, "error", ""}}, false); !errors.Is(err, ErrExists) {
		t.Errorf("name that is taken: %v", err)
	}
	if _, err := c.Create(t.Context(), "x", "HOLDFAST-taken", []Target{{0, 1, "error", ""}}, false); !errors.Is(err, ErrExists) {
		t.Errorf("UUID that is taken: %v", err)
	}
	if got := dmsetup(t, "table"); got != "taken: "+good.String() {
		t.Errorf("dmsetup: %s", got)
	}
}

func TestReadOnlyDeviceCannotBeWritten(t *testing.T) {
	c := control(t)
	_, dev := disk(t, make([]byte, 1024))
	i, err := c.Create(t.Context(), "ro", "", []Target{{0, 1, "linear", number(dev) + " 1"}}, true)
	if err != nil {
		t.Fatal(err)
	}
	if got := dmsetup(t, "info", "-c", "--noheadings", "-o", "attr", "ro"); got != "L--r" || !i.ReadOnly {
		t.Errorf("dmsetup: %s, %+v", got, i)
	}
	if f, err := os.OpenFile(Path("ro"), os.O_RDWR, 0); err == nil {
		if _, err := f.Write(make([]byte, 512)); err == nil {
			t.Error("it was written to")
		}
		_ = f.Close()
	}
	if err := c.Remove(t.Context(), "ro", time.Second); err != nil {
		t.Error(err)
	}
}

func TestListsAndTablesOfAnySizeAreRead(t *testing.T) {
	c := control(t)
	var many []Target
	for i := range 120 {
		many = append(many, Target{uint64(i), 1, "error", ""})
	}
	create(t, c, "many", "", many...)
	if got, err := c.Table("many"); err != nil || !slices.Equal(got, many) {
		t.Errorf("%d of %d targets, %v", len(got), len(many), err)
	}
	long := strings.Repeat("n", 120)
	for i := range 40 {
		create(t, c, fmt.Sprint(long, i), "", Target{0, 1, "error", ""})
	}
	list, err := c.List()
	if err != nil || len(list) != 41 {
		t.Errorf("%d devices, %v", len(list), err)
	}
}

func TestStaleNodeIsReplaced(t *testing.T) {
	c := control(t)
	if err := errors.Join(os.MkdirAll(Dir, 0o755), unix.Mknod(Path("stale"), unix.S_IFBLK|0o600, int(unix.Mkdev(7, 200)))); err != nil {
		t.Fatal(err)
	}
	i := create(t, c, "stale", "", Target{0, 1, "error", ""})
	if !nodeIs(Path("stale"), i.Device) {
		t.Error("the node leads to another device")
	}
}
