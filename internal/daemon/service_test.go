//go:build unix

package daemon_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/daemon"
)

// child says that this process is the service in a test.
const child = "HOLDFAST_TEST_CHILD"

func TestSocketOfTheServiceManagerIsTaken(t *testing.T) {
	if os.Getenv(child) != "" {
		l, err := daemon.Listener()
		if err != nil || l == nil {
			t.Fatalf("%v, %v", l, err)
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, "served by the child")
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		return
	}
	if l, err := daemon.Listener(); l != nil || err != nil {
		t.Fatalf("without a service manager: %v, %v", l, err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `LISTEN_PID=$$ exec "$0" -test.run '^TestSocketOfTheServiceManagerIsTaken$'`, os.Args[0])
	cmd.ExtraFiles = []*os.File{file}
	cmd.Env = append(os.Environ(), child+"=1", "LISTEN_FDS=1")
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(c)
	if werr := cmd.Wait(); err != nil || werr != nil || string(text) != "served by the child" {
		t.Errorf("%q, %v, %v: %s", text, err, werr, out.String())
	}
}

func TestWatchdogHearsAServiceThatLives(t *testing.T) {
	if err := daemon.Watchdog(t.Context(), func() { t.Error("nobody asked") }); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "20000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	asked := make(chan struct{}, 100)
	go func() { ended <- daemon.Watchdog(ctx, func() { asked <- struct{}{} }) }()
	for range 3 {
		<-asked
		var b [200]byte
		if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := c.Read(b[:])
		if err != nil || string(b[:n]) != "WATCHDOG=1" {
			t.Fatalf("%q, %v", b[:n], err)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
