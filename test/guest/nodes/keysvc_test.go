//go:build linux

package nodes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/scsi/sg"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/drivecrypt"
	"github.com/holdfast-backup/holdfast/internal/tape/keysvc"
)

// The users of these tests: one who backs up, and the service.
const (
	tapeGroup   = 26
	backupUser  = 1000
	serviceUser = 2000
	strangeUser = 3000
)

// as runs a command as a user without capabilities.
func as(cmd *exec.Cmd, user uint32, groups ...uint32) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user, Groups: groups}}
}

// fileKeys is a key in a file, which is the key of any media set of its name.
type fileKeys string

var testKey = tape.KeyOf{
	Fingerprint: chunkcrypt.Fingerprint{1, 2, 3}, MediaSet: uuid.MustParse("9da37a55-aac7-4deb-91c6-482b3b675f30"),
}

func (f fileKeys) DataKey(k tape.KeyOf) (tape.DataKey, error) {
	b, err := os.ReadFile(string(f))
	if err != nil {
		return tape.DataKey{}, err
	}
	if k != testKey {
		return tape.DataKey{}, fmt.Errorf("key %s: %w", k.Fingerprint.Short(), repo.ErrNotFound)
	}
	return tape.NewDataKey([32]byte(b)), nil
}

// playService answers the connection that is descriptor 3, as the service does.
func playService(keys string) error {
	conn, err := net.FileConn(os.NewFile(3, "connection"))
	if err != nil {
		return err
	}
	s := keysvc.Service{Keys: fileKeys(keys), Users: []uint32{backupUser}, Log: slog.New(slog.DiscardHandler)}
	return s.Serve(context.Background(), conn.(*net.UnixConn))
}

// playClient opens a drive as its own user and has the service set its key.
func playClient(what string) error {
	node, socket, _ := strings.Cut(what, " ")
	d, err := sg.Open(node)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	c := keysvc.Client{Path: socket}
	if err := c.SetKey(context.Background(), d, tape.KeyOf{Fingerprint: chunkcrypt.Fingerprint{9}}); !errors.Is(err, repo.ErrNotFound) {
		return fmt.Errorf("a key that there is not: %w", err)
	}
	return c.SetKey(context.Background(), d, testKey)
}

// serveKeys starts the service for each connection, as the service manager does.
func serveKeys(t *testing.T, keys string) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(socket, 0o666), os.Chmod(filepath.Dir(socket), 0o755), os.Chmod(filepath.Dir(filepath.Dir(socket)), 0o755)); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f, err := conn.(*net.UnixConn).File()
			_ = conn.Close()
			if err != nil {
				t.Error(err)
				return
			}
			cmd, out := player("service "+keys, f)
			as(cmd, serviceUser)
			if err := cmd.Run(); err != nil {
				t.Errorf("the service: %v: %s", err, out)
			}
			_ = f.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return socket
}

func TestAUserWithoutKeysHasThemPutIntoADrive(t *testing.T) {
	_, nodes := attach(t, newDrive(t, "DRV0000012"))
	d := open(t, nodes[0].Generic)
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, bytes.Repeat([]byte{7}, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chown(keys, serviceUser, serviceUser), os.Chmod(filepath.Dir(keys), 0o755), os.Chmod(filepath.Dir(filepath.Dir(keys)), 0o755),
		os.Chmod(os.Args[0], 0o755), os.Chown(nodes[0].Generic, 0, tapeGroup), os.Chmod(nodes[0].Generic, 0o660)); err != nil {
		t.Fatal(err)
	}
	socket := serveKeys(t, keys)
	for _, tc := range []struct {
		user uint32
		want string
	}{
		{strangeUser, "not allowed"},
		{backupUser, "done\n"},
	} {
		cmd, out := player("client "+nodes[0].Generic+" "+socket, nil...)
		as(cmd, tc.user, tapeGroup)
		_ = cmd.Run() // what it says is what counts
		if !strings.Contains(out.String(), tc.want) {
			t.Errorf("user %d: %q, want %q", tc.user, out, tc.want)
		}
		s, err := drivecrypt.Current(d)
		if err != nil || s.On() != (tc.user == backupUser) {
			t.Errorf("after user %d the drive %s: %v", tc.user, s, err)
		}
	}
	if err := drivecrypt.Clear(d); err != nil {
		t.Fatal(err)
	}
}

func TestOnlyTapeDrivesGetKeys(t *testing.T) {
	lib := newLibrary(t)
	_, nodes := attach(t, lib...)
	d := open(t, nodes[0].Generic)
	keys := filepath.Join(t.TempDir(), "keys")
	if err := errors.Join(os.WriteFile(keys, make([]byte, 32), 0o644), os.Chmod(os.Args[0], 0o755)); err != nil {
		t.Fatal(err)
	}
	err := keysvc.Client{Path: serveKeys(t, keys)}.SetKey(t.Context(), d, testKey)
	if err == nil || !strings.Contains(err.Error(), "no tape drive but a media changer") {
		t.Fatalf("err = %v", err)
	}
}
