package nbdclient

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

func requireTools(t testing.TB, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is needed: %v", tool, err)
			}
			t.Skipf("%s is not here", tool)
		}
	}
}

func tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// listens reports that connections to a server's socket are taken. nbdkit says
// so by its pid file, for it may be told to count connections.
func listens(name, socket string) bool {
	if name == "nbdkit" {
		_, err := os.Stat(socket + ".pid")
		return err == nil
	}
	nc, err := net.Dial("unix", socket)
	if err != nil {
		return false
	}
	_ = nc.Close()
	return true
}

// daemon runs a server for the test and waits until it listens.
func daemon(t testing.TB, socket, name string, args ...string) *exec.Cmd {
	t.Helper()
	requireTools(t, name)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	if name == "nbdkit" {
		args = append([]string{"-P", socket + ".pid"}, args...)
	}
	cmd := exec.CommandContext(ctx, name, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		if t.Failed() && out.Len() > 0 {
			t.Logf("%s said:\n%s", name, out.String())
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if listens(name, socket) {
			return cmd
		}
		select {
		case <-ended:
			t.Fatalf("%s ended: %s", name, out.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s made no socket: %s", name, out.String())
		}
	}
}

// kit runs nbdkit, which needs its socket to exist and be accepting.
func kit(t testing.TB, args ...string) nbd.URI {
	t.Helper()
	socket := socketPath(t)
	daemon(t, socket, "nbdkit", append([]string{"-f", "-U", socket}, args...)...)
	return nbd.URI{Socket: socket}
}

// socketPath is short enough for any system.
func socketPath(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "nbd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// open opens an export and closes it with the test.
func open(t testing.TB, u nbd.URI, o Options) *Image {
	t.Helper()
	im, err := Open(t.Context(), u, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = im.Close() })
	return im
}

func pipeDial(server func(nc net.Conn)) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		a, b := net.Pipe()
		go server(b)
		return a, nil
	}
}

func compareFile(t *testing.T, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%s is not what was written", path)
	}
}
