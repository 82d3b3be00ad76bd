//go:build linux

package nodes

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
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
	"github.com/holdfast-backup/holdfast/internal/scsi"
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

// program is where package guest puts the service.
const program = "/usr/lib/holdfast/holdfast-tape-key"

// A key, a media set, and what the drive gets for both: the vectors of tape/keys.
const (
	keyList     = `[{"fingerprint": "` + fingerprint + `", "key": "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"}]`
	fingerprint = "0e:ab:d4:46:0b:6e:b9:ca:34:50:23:de:e2:b7:78:c7:90:e5:4a:16:83:b9:65:9c:0a:57:ae:19:90:90:15:9b"
	mediaSet    = "9da37a55-aac7-4deb-91c6-482b3b675f30"
	dataKey     = "cbcebebbdf94e64f41dd864687afe8ea19742b1db528263cd3a32e2f26eeffce"
)

func testKey() (k tape.KeyOf, d tape.DataKey) {
	f, err := chunkcrypt.ParseFingerprint(fingerprint)
	raw, rerr := hex.DecodeString(dataKey)
	if err := errors.Join(err, rerr); err != nil {
		panic(err)
	}
	return tape.KeyOf{Fingerprint: f, MediaSet: uuid.MustParse(mediaSet)}, tape.NewDataKey([32]byte(raw))
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
	k, _ := testKey()
	return c.SetKey(context.Background(), d, k)
}

// keyDir is a directory with keys that only the service may read.
func keyDir(t *testing.T, list []byte) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "tape-encryption-keys.json")
	err := errors.Join(os.WriteFile(file, list, 0o600), os.Chown(file, serviceUser, serviceUser), open755(dir))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// open755 lets all users into a directory of a test.
func open755(dir string) error {
	return errors.Join(os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(os.Args[0], 0o755))
}

// keySocket is a socket of the service with the test's key.
func keySocket(t *testing.T) (socket string) {
	t.Helper()
	keys := keyDir(t, []byte(keyList))
	socket = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(socket, 0o666), open755(filepath.Dir(socket))); err != nil {
		t.Fatal(err)
	}
	serveKeys(t, l, keys)
	return socket
}

// serveKeys starts the service for each connection, as the service manager does.
func serveKeys(t *testing.T, l net.Listener, keys string) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if err := serveOne(conn.(*net.UnixConn), keys); err != nil {
				t.Error(err)
			}
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
}

// serveOne runs the program for a connection.
func serveOne(conn *net.UnixConn, keys string) error {
	f, err := conn.File()
	_ = conn.Close()
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	cmd := exec.Command(program, "serve")
	cmd.Env = []string{"CREDENTIALS_DIRECTORY=" + keys}
	var log bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = f, f, &log
	as(cmd, serviceUser)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("the service: %w: %s", err, &log)
	}
	return nil
}

func TestAUserWithoutKeysHasThemPutIntoADrive(t *testing.T) {
	_, nodes := attach(t, newDrive(t, "DRV0000012"))
	d := open(t, nodes[0].Generic)
	if err := errors.Join(os.Chown(nodes[0].Generic, 0, tapeGroup), os.Chmod(nodes[0].Generic, 0o660)); err != nil {
		t.Fatal(err)
	}
	socket := keySocket(t)
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
	keyIsIn(t, d)
}

// keyIsIn makes sure that it is that key: what is written with it can be read
// with the same one. Then it takes the key out.
func keyIsIn(t *testing.T, d *sg.Device) {
	t.Helper()
	mustDo(t, d, scsi.None, nil, 0x01, 0, 0, 0, 0, 0)
	mustDo(t, d, scsi.Out, make([]byte, block), 0x0a, 0, 4, 0, 0, 0)
	mustDo(t, d, scsi.None, nil, 0x01, 0, 0, 0, 0, 0)
	if err := drivecrypt.Clear(d); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, block)
	wantSense(t, second(do(t, d, scsi.In, got, 0x08, 2, 4, 0, 0, 0)), scsi.DataProtect, 0x7401)
	mustDo(t, d, scsi.None, nil, 0x01, 0, 0, 0, 0, 0)
	_, k := testKey()
	if err := drivecrypt.Set(d, k); err != nil {
		t.Fatal(err)
	}
	mustDo(t, d, scsi.In, got, 0x08, 2, 4, 0, 0, 0)
	if err := drivecrypt.Clear(d); err != nil {
		t.Fatal(err)
	}
}

func TestTheCommandOfPBSSetsAndClearsAKey(t *testing.T) {
	_, nodes := attach(t, newDrive(t, "DRV0000014"))
	d := open(t, nodes[0].Generic)
	keys := keyDir(t, []byte(keyList))
	for _, args := range [][]string{
		{"encryption", "--config", keys, "--stdin", "--fingerprint", fingerprint, "--uuid", mediaSet},
		{"encryption", "--stdin"},
	} {
		cmd := exec.Command(program, args...)
		cmd.Stdin, cmd.Stderr = d.File(), os.Stderr
		as(cmd, serviceUser)
		if out, err := cmd.Output(); err != nil || string(out) != "{\n  \"Ok\": null\n}\n" {
			t.Fatalf("%q: %q, %v", args, out, err)
		}
		if len(args) > 2 {
			if s, err := drivecrypt.Current(d); err != nil || !s.On() {
				t.Fatalf("the drive %s: %v", s, err)
			}
			continue
		}
		if s, err := drivecrypt.Current(d); err != nil || !s.Off() {
			t.Fatalf("the drive %s: %v", s, err)
		}
	}
}

func TestOnlyTapeDrivesGetKeys(t *testing.T) {
	_, nodes := attach(t, newLibrary(t)...)
	k, _ := testKey()
	err := keysvc.Client{Path: keySocket(t)}.SetKey(t.Context(), open(t, nodes[0].Generic), k)
	if err == nil || !strings.Contains(err.Error(), "no tape drive but a media changer") {
		t.Fatalf("err = %v", err)
	}
}
