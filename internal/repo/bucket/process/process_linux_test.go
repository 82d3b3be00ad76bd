package process

import (
	"os/exec"
	"testing"
)

func TestDeadProcessesOfThisHostAreKnown(t *testing.T) {
	self := Self()
	if self.Boot == "" || self.Start == 0 || Dead(self) {
		t.Fatalf("%+v is dead, or unknown", self)
	}
	cmd := exec.CommandContext(t.Context(), "cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	other := self
	other.PID = cmd.Process.Pid
	if other.Start, err = started(other.PID); err != nil {
		t.Fatal(err)
	}
	if Dead(other) {
		t.Error("one that waits is dead")
	}
	_ = in.Close() // it ends
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if !Dead(other) {
		t.Error("one that ended is not dead")
	}
	reused := self
	reused.Start--
	if !Dead(reused) {
		t.Error("one whose number has another process now is not dead")
	}
	for name, change := range map[string]func() bool{
		"another host":  func() bool { p := other; p.Host += "x"; return Dead(p) },
		"another boot":  func() bool { p := other; p.Boot += "x"; return Dead(p) },
		"unknown epoch": func() bool { p := other; p.Boot = ""; return Dead(p) },
	} {
		if change() {
			t.Errorf("%s: nothing is known, and it is dead", name)
		}
	}
}
