//go:build unix

package nbdserver_test

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/proto/nbd/nbdserver"
)

func TestSocketIsItsOwnersAloneAndGoesWithItsServer(t *testing.T) {
	t.Chdir(t.TempDir())
	l, err := nbdserver.ListenUnix("s")
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat("s"); err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := nbdserver.ListenUnix("s"); err == nil || !strings.Contains(err.Error(), "another server listens there") {
		t.Errorf("a second server: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat("s"); !os.IsNotExist(err) {
		t.Errorf("the socket stayed: %v", err)
	}
}

func TestSocketOfADeadServerIsReplacedAndNothingElse(t *testing.T) {
	t.Chdir(t.TempDir())
	dead, err := net.Listen("unix", "s")
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	dead.Close()
	l, err := nbdserver.ListenUnix("s")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := os.WriteFile("file", []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("file", "link"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"file", "link", ".", "no/such/dir/s", filepath.Join(strings.Repeat("long", 30), "s")} {
		if l, err := nbdserver.ListenUnix(name); err == nil {
			l.Close()
			t.Errorf("it listens on %s", name)
		}
	}
	if b, err := os.ReadFile("file"); string(b) != "mine" {
		t.Errorf("%q, %v", b, err)
	}
}
