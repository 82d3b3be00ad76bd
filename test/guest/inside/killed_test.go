//go:build linux

package inside

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/image/source"
	"github.com/holdfast-backup/holdfast/internal/kernel/loop"
	"github.com/holdfast-backup/holdfast/internal/kernel/nbdattach"
)

// victimRole makes the test binary a server that is going to be killed.
const victimRole = "HOLDFAST_VICTIM"

// victim attaches /dev/vda, prints the device and serves until it dies.
func victim(role string) int {
	img, err := source.Open("/dev/vda", source.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var path string
	var keep any
	switch role {
	case "loop":
		dev, file, aerr := attachLoop(context.Background(), img)
		keep, err = []any{dev, file}, aerr
		if err == nil {
			path = dev.Path()
		}
	case "nbd":
		dev, _, aerr := attachNBD(context.Background(), img)
		keep, err = dev, aerr
		if err == nil {
			path = dev.Path()
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(path)
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test is gone
	_ = keep
	return 0
}

// startVictim returns the device that the server made.
func startVictim(t *testing.T, role string) (cmd *exec.Cmd, device string) {
	t.Helper()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimRole+"="+role)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // a second time is an error and nothing more
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the server said %q, %v", line, err)
	}
	return cmd, strings.TrimSpace(line)
}

// A server dies under a mounted file system: reads fail, nothing hangs, and
// after the unmount the device is free.
func TestKilledServerHangsNobody(t *testing.T) {
	for _, role := range []string{"loop", "nbd"} {
		t.Run(role, func(t *testing.T) {
			cmd, device := startVictim(t, role)
			dir := t.TempDir()
			if err := unix.Mount(device+"p1", dir, "ext4", unix.MS_RDONLY, "noload"); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			within(t, "the end of the killed server", func() error { return signalled(cmd.Wait()) })
			within(t, "reading from a dead device", func() error {
				b, err := readRest(device)
				if err == nil {
					return fmt.Errorf("%d bytes were read without a server", b)
				}
				t.Logf("reads fail: %v", err)
				return nil
			})
			within(t, "unmount", func() error { return unix.Unmount(dir, 0) })
			within(t, "the device to be free", func() error { return waitFree(t, role, device) })
			noBlockedProcess(t)
		})
	}
}

// within fails the test when f fails or takes too long: then it hangs in the kernel.
func within(t *testing.T, what string, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }() // where it hangs, only the machine's end ends it
	select {
	case err := <-done:
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	case <-time.After(45 * time.Second):
		t.Fatalf("%s: hangs", what)
	}
}

func signalled(err error) error {
	if e, ok := errors.AsType[*exec.ExitError](err); ok && e.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return nil
	}
	return fmt.Errorf("it ended otherwise: %w", err)
}

// readRest reads the device where nothing has been read before.
func readRest(device string) (int, error) {
	fd, err := unix.Open(device, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	return unix.Pread(fd, make([]byte, 1<<20), 40<<20)
}

func waitFree(t *testing.T, role, device string) error {
	ctx := limit(t)
	if role == "nbd" {
		index, err := nbdattach.ParseIndex(device)
		if err != nil {
			return err
		}
		if err := nbdattach.Disconnect(ctx, index); err != nil && !errors.Is(err, nbdattach.ErrFree) {
			return err
		}
		if _, err := nbdattach.Read(index); !errors.Is(err, nbdattach.ErrFree) {
			return fmt.Errorf("after it was disconnected: %w", err)
		}
		return nil
	}
	number, err := loop.ParseNumber(device)
	if err != nil {
		return err
	}
	for {
		if _, err := loop.Read(number); errors.Is(err, loop.ErrFree) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is still attached", device)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// noBlockedProcess looks for processes in an uninterruptible sleep that lasts.
func noBlockedProcess(t *testing.T) {
	t.Helper()
	blocked := func() (list []string) {
		stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is sound
		for _, s := range stats {
			b, err := os.ReadFile(s)
			if err != nil {
				continue // it has ended
			}
			if i := strings.LastIndexByte(string(b), ')'); i > 0 && strings.HasPrefix(string(b)[i:], ") D") {
				list = append(list, string(b)[:i+1])
			}
		}
		return list
	}
	for range 50 {
		if len(blocked()) == 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("blocked in the kernel: %q", blocked())
}
