package process

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestOnlyTheProcessThatBeganThenIsKilled(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	start, err := Start(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := Kill(cmd.Process.Pid, start-1); err != nil || !Runs(cmd.Process.Pid, start) {
		t.Fatalf("a process that began at another time: %v", err)
	}
	if err := Kill(cmd.Process.Pid, start); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("it was not killed")
	}
	if Runs(cmd.Process.Pid, start) {
		t.Error("it runs on")
	}
	if _, err := Start(cmd.Process.Pid); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a process that has ended: %v", err)
	}
	if err := Kill(cmd.Process.Pid, start); err != nil {
		t.Errorf("killed again: %v", err)
	}
}

func TestNeitherItselfNorTheFirstProcessIsKilled(t *testing.T) {
	for _, pid := range []int{0, 1, -1, os.Getpid()} {
		start, _ := Start(pid)
		if err := Kill(pid, start); err == nil {
			t.Errorf("process %d", pid)
		}
	}
}

func TestANameWithBracketsAndBlanksHidesNothing(t *testing.T) {
	path := t.TempDir() + "/a ) 1 2 (b"
	b, err := os.ReadFile("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	start, err := Start(cmd.Process.Pid)
	if self, serr := Start(os.Getpid()); err != nil || serr != nil || start < self {
		t.Errorf("%d, %v; this one began at %d, %v", start, err, self, serr)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

func TestAProcessThatNobodyHasWaitedForHasEnded(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	start, err := Start(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); Runs(cmd.Process.Pid, start); { // its end takes a moment
		if time.Now().After(deadline) {
			t.Fatal("it runs although it has ended")
		}
	}
	if again, err := Start(cmd.Process.Pid); err != nil || again != start {
		t.Errorf("its number is another's: %v", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
