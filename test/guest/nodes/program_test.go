//go:build linux

package nodes

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/tape/keysvc"
)

// holdfast is where package guest puts the program.
const holdfast = "/usr/local/bin/holdfast"

// desk is where a user works who is in the group of tape drives and has no
// other rights.
type desk struct {
	t   *testing.T
	dir string
}

// command is the program as the user starts it.
func (d desk) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(d.t.Context(), holdfast, args...)
	cmd.Dir = d.dir
	cmd.Env = []string{
		"HOME=" + d.dir, "TMPDIR=" + d.dir, "HOLDFAST_SERVER_CONFIG=" + d.dir + "/conf", "HOLDFAST_REPOSITORY=" + d.dir + "/tank",
		"PBS_ENCRYPTION_PASSWORD=secret", "PATH=" + os.Getenv("PATH"),
	}
	as(cmd, backupUser, tapeGroup)
	return cmd
}

// run runs the program to its end, which is to be a success.
func (d desk) run(args ...string) string {
	d.t.Helper()
	cmd := d.command(args...)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil {
		d.t.Fatalf("holdfast %q: %v: %s%s", args, err, &out, &log)
	}
	return out.String()
}

func newDesk(t *testing.T) desk {
	t.Helper()
	d := desk{t, t.TempDir()}
	if err := errors.Join(os.Chown(d.dir, backupUser, backupUser), open755(d.dir)); err != nil {
		t.Fatal(err)
	}
	return d
}

// serveLibrary serves the library as root and gives its nodes to the group.
func (d desk) serveLibrary(name string) {
	d.t.Helper()
	cmd := exec.Command(holdfast, "tape", "library", "serve", filepath.Join(d.dir, name), "--devices", name, "--output-format", "json")
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil && cmd.ProcessState.ExitCode() != 130 {
			d.t.Errorf("the server of the library: %v", err)
		}
	})
	line, err := bufio.NewReader(pipe).ReadBytes('\n')
	if err != nil {
		d.t.Fatal(err)
	}
	var served struct {
		Units []struct{ Devices []string }
	}
	if err := json.Unmarshal(line, &served); err != nil || len(served.Units) != 2 {
		d.t.Fatalf("it serves %s: %v", line, err)
	}
	for _, u := range served.Units {
		if err := errors.Join(os.Chown(u.Devices[0], 0, tapeGroup), os.Chmod(u.Devices[0], 0o660)); err != nil {
			d.t.Fatal(err)
		}
	}
}

// keepKeys gives the keys to the service, and takes them from the user.
func (d desk) keepKeys() {
	d.t.Helper()
	mine := filepath.Join(d.dir, "conf", "tape-encryption-keys.json")
	list, err := os.ReadFile(mine)
	if err != nil {
		d.t.Fatal(err)
	}
	theirs := keyDir(d.t, list)
	if err := errors.Join(os.Chown(mine, 0, 0), os.Chmod(mine, 0o600), os.MkdirAll(filepath.Dir(keysvc.Socket), 0o755)); err != nil {
		d.t.Fatal(err)
	}
	l, err := net.Listen("unix", keysvc.Socket)
	if err != nil {
		d.t.Fatal(err)
	}
	if err := os.Chmod(keysvc.Socket, 0o666); err != nil {
		d.t.Fatal(err)
	}
	serveKeys(d.t, l, theirs)
}

// A user backs up to encrypted tapes in real devices, with keys that only the
// service may read, and gets everything back.
func TestAUserBacksUpToEncryptedTapes(t *testing.T) {
	d := newDesk(t)
	if err := os.WriteFile(filepath.Join(d.dir, "disk"), bytes.Repeat([]byte("0123456789abcdef"), 300_000), 0o644); err != nil {
		t.Fatal(err)
	}
	d.run("init", "tank", "--lazy")
	d.run("backup", "disk.img:disk", "--backup-type", "vm", "--backup-id", "100")
	d.run("tape", "library", "create", "vtl", "--slots", "4")
	d.run("tape", "library", "add", "vtl", "TAPE01L8", "TAPE02L8", "--capacity", "64M")
	d.serveLibrary("vtl")

	wantWords(t, d.run("tape", "scan"), "HFCHANGER1", "HFDRIVE001", "/dev/sg")
	d.run("tape", "changer", "create", "lib", "--path", scsi.SerialPrefix+"HFCHANGER1")
	d.run("tape", "drive", "create", "drive", "--path", scsi.SerialPrefix+"HFDRIVE001", "--changer", "lib")
	d.run("tape", "key", "create", "--hint", "the usual one")
	_, key, _ := strings.Cut(d.run("tape", "key", "list", "--output-format", "json"), `"fingerprint":"`)
	key, _, _ = strings.Cut(key, `"`)
	d.run("tape", "pool", "create", "vault", "--encrypt", key)
	d.keepKeys()

	wantWords(t, d.run("tape", "barcode-label", "--pool", "vault"), "2 media labelled")
	wantWords(t, d.run("tape", "backup", "tank", "vault", "--datastore", "tank=tank"), "1 snapshot written")
	_, set, _ := strings.Cut(d.run("tape", "media", "content", "--output-format", "json"), `"media-set-uuid":"`)
	set, _, _ = strings.Cut(set, `"`)
	d.run("init", "back", "--lazy")
	wantWords(t, d.run("tape", "restore", set, "other", "--datastore", "other=back"), "1 snapshot restored")
	d.run("restore", "vm/100", "disk.img", "again", "--repository", filepath.Join(d.dir, "back"))
	want, werr := os.ReadFile(filepath.Join(d.dir, "disk"))
	got, gerr := os.ReadFile(filepath.Join(d.dir, "again"))
	if err := errors.Join(werr, gerr); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes came back of %d: %v", len(got), len(want), err)
	}
}
