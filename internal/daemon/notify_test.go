//go:build unix

package daemon_test

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/daemon"
)

func TestServiceManagerHearsThatTheServiceWorks(t *testing.T) {
	if err := daemon.NotifyReady("nobody listens"); err != nil {
		t.Fatalf("without a service manager: %v", err)
	}
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	if err := daemon.NotifyReady("mapped on /dev/loop7"); err != nil {
		t.Fatal(err)
	}
	if err := daemon.NotifyStopping(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"READY=1\nSTATUS=mapped on /dev/loop7", "STOPPING=1"} {
		var b [200]byte
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, err := c.Read(b[:])
		if err != nil || string(b[:n]) != want {
			t.Errorf("got %q, %v, want %q", b[:n], err, want)
		}
	}
}
