//go:build linux

package nodes

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/sg"
	"github.com/holdfast-backup/holdfast/internal/scsi/target"
	"github.com/holdfast-backup/holdfast/internal/scsi/tcmu"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/drive"
)

// playTarget makes a node of a drive that never ends a REWIND, and waits to be
// killed.
func playTarget(name string) error {
	d, err := drive.New(drive.Config{Generation: 8, Serial: "DRV0000020"})
	if err != nil {
		return err
	}
	w := watch(d)
	w.hold(scsi.Rewind, func() {
		fmt.Println("rewinding")
		time.Sleep(time.Hour)
	})
	a, err := tcmu.Attach(name, []target.Unit{w})
	if err != nil {
		return err
	}
	nodes, err := a.Nodes()
	if err != nil {
		return err
	}
	fmt.Println(nodes[0].Generic)
	time.Sleep(time.Hour)
	return nil
}

func TestWhatADeadServerLeavesIsTakenAway(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleOf+"=target dead")
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	out := bufio.NewReader(pipe)
	node, err := out.ReadString('\n')
	if err != nil || !strings.HasPrefix(node, "/dev/sg") {
		t.Fatalf("the server said %q: %v", node, err)
	}
	d, err := sg.Open(strings.TrimSpace(node))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	err = scsi.CheckReady(d)
	if s, ok := scsi.AsSense(err); !ok || s.Key != scsi.UnitAttention {
		t.Fatalf("a new unit says %v", err)
	}
	waits := make(chan error, 1)
	go func() {
		_, err := d.Do(scsi.Command{CDB: []byte{1, 0, 0, 0, 0, 0}, Timeout: 10 * time.Minute})
		waits <- err
	}()
	if line, err := out.ReadString('\n'); line != "rewinding\n" {
		t.Fatalf("the server said %q: %v", line, err)
	}
	if err := tcmu.Remove("dead"); !errors.Is(err, tcmu.ErrServed) {
		t.Fatalf("a living server: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed

	unit := []target.Unit{newDrive(t, "DRV0000021")}
	if _, err := tcmu.Attach("dead", unit); !errors.Is(err, tcmu.ErrServed) {
		t.Fatalf("a second server of the name: %v", err)
	}
	if err := tcmu.Remove("dead"); err != nil {
		t.Fatal(err)
	}
	if err := <-waits; err == nil {
		t.Error("the command that nobody answered succeeded")
	} else {
		t.Log(err)
	}
	if left, err := os.ReadDir(configfs + "/target/core"); err != nil || len(left) != 1 { // the kernel's own directory alua
		t.Errorf("left are %v: %v", left, err)
	}
	a, err := tcmu.Attach("dead", unit)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(a.Close(), tcmu.Remove("dead")); err != nil { // nothing is left to be removed
		t.Error(err)
	}
}

func TestTakingADeviceAwayWaitsForItsCommand(t *testing.T) {
	w := watch(newDrive(t, "DRV0000022"))
	a, nodes := attach(t, w)
	d := open(t, nodes[0].Generic)
	release := make(chan struct{})
	w.hold(scsi.Rewind, func() { <-release })
	waits, closed := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := d.Do(scsi.Command{CDB: []byte{1, 0, 0, 0, 0, 0}, Timeout: time.Minute})
		waits <- err
	}()
	<-w.begun
	go func() { closed <- a.Close() }()
	for _, err := os.Stat(nodes[0].Kernel[0]); err == nil; _, err = os.Stat(nodes[0].Kernel[0]) {
		time.Sleep(10 * time.Millisecond) // until the kernel has begun to take it away
	}
	close(release)
	if err := <-waits; err != nil {
		t.Errorf("the command: %v", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if err := scsi.CheckReady(d); err == nil {
		t.Error("it is still there")
	}
}

func TestUnitsThatCannotBeAttachedLeaveNothing(t *testing.T) {
	unit := newDrive(t, "DRV0000023")
	for name, units := range map[string][]target.Unit{"none": nil, "": {unit}, "a/b": {unit}, "..": {unit}} {
		if a, err := tcmu.Attach(name, units); err == nil {
			_ = a.Close()
			t.Errorf("%q with %d units was attached", name, len(units))
		}
	}
	if left, err := os.ReadDir(configfs + "/target/core"); err != nil || len(left) != 1 {
		t.Errorf("left are %v: %v", left, err)
	}
}
