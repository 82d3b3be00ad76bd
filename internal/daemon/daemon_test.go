//go:build unix

package daemon_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/daemon"
	"golang.org/x/sys/unix"
)

// TestMain is the program that goes to the background, in the way that its
// first argument names.
func TestMain(m *testing.M) {
	way, ok := strings.CutPrefix(os.Args[len(os.Args)-1], "way=")
	if !ok {
		os.Exit(m.Run())
	}
	os.Exit(program(way))
}

func program(way string) int {
	c := daemon.Inherited()
	if c == nil {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		keep := []int{7, 0}
		if way == "plain" {
			keep = nil
		}
		code, err := daemon.Background(ctx, keep...)
		if err != nil {
			fmt.Println("parent:", err)
			return 99
		}
		fmt.Println("parent: ready or ended with", code)
		return code
	}
	switch way {
	case "fails":
		fmt.Println("child: cannot")
		return 12
	case "silent":
		return 0
	case "keep":
		b, err := io.ReadAll(os.NewFile(7, "seven"))
		fmt.Printf("child: seven says %q %v\n", b, err)
	}
	fmt.Println("child: serves as", os.Getpid())
	if err := c.Ready(nil); err != nil {
		fmt.Println("child:", err)
		return 1
	}
	if os.Getenv("HOLDFAST_BACKGROUND_FD") != "" {
		return 1
	}
	select {
	case <-time.After(30 * time.Second):
	case <-waitFor(os.Getenv("STOP_FILE")):
	}
	return 0
}

// waitFor polls another process's sign.
func waitFor(file string) <-chan struct{} {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for _, err := os.Stat(file); err == nil; _, err = os.Stat(file) {
			time.Sleep(10 * time.Millisecond)
		}
	}()
	return gone
}

func start(t *testing.T, way string, extra ...*os.File) (out string, code int, stop func()) {
	t.Helper()
	flag := t.TempDir() + "/run"
	if err := os.WriteFile(flag, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "way="+way)
	cmd.Env = append(os.Environ(), "STOP_FILE="+flag)
	var buf bytes.Buffer
	cmd.Stdout, cmd.Stderr = &buf, &buf
	cmd.ExtraFiles = extra
	cmd.WaitDelay = 20 * time.Second
	_ = cmd.Run() // ends at once: the child has let go of the pipe
	return buf.String(), cmd.ProcessState.ExitCode(), func() { _ = os.Remove(flag) }
}

func TestParentEndsWhenTheChildIsReadyAndTheChildLivesOn(t *testing.T) {
	out, code, stop := start(t, "plain")
	defer stop()
	_, rest, ok := strings.Cut(out, "child: serves as ")
	line, after, _ := strings.Cut(rest, "\n")
	pid, err := strconv.Atoi(line)
	if !ok || err != nil || code != 0 || after != "parent: ready or ended with 0\n" {
		t.Fatalf("exit code %d, %q", code, out)
	}
	if err := unix.Kill(pid, 0); err != nil {
		t.Fatalf("the child is gone: %v", err)
	}
	if sid, err := unix.Getsid(pid); err != nil || sid != pid {
		t.Errorf("session %d of process %d, %v: it still belongs to the terminal", sid, pid, err)
	}
	if dir, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err == nil && dir != "/" {
		t.Errorf("it works in %s", dir)
	}
	stop()
	for deadline := time.Now().Add(20 * time.Second); unix.Kill(pid, 0) == nil && time.Now().Before(deadline); {
		var ws unix.WaitStatus
		_, _ = unix.Wait4(pid, &ws, unix.WNOHANG, nil)
		time.Sleep(10 * time.Millisecond)
	}
}

func TestExitCodeOfAChildThatFailsIsTheParents(t *testing.T) {
	if out, code, _ := start(t, "fails"); code != 12 || !strings.HasPrefix(out, "child: cannot\n") {
		t.Errorf("exit code %d, %q", code, out)
	}
}

func TestChildThatEndsWithoutAWordIsAFailure(t *testing.T) {
	if out, code, _ := start(t, "silent"); code != 99 || !strings.Contains(out, "ended before it was ready") {
		t.Errorf("exit code %d, %q", code, out)
	}
}

func TestDescriptorsKeepTheirNumbers(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.WriteString("a key")
	w.Close()
	defer r.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	out, code, stop := start(t, "keep", null, null, null, null, r) // 3 to 7
	defer stop()
	if code != 0 || !strings.Contains(out, `child: seven says "a key" <nil>`) {
		t.Errorf("exit code %d, %q", code, out)
	}
}
