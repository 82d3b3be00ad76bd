//go:build linux

package trees

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// nobody makes a command run as a user without any right.
func nobody(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Env = append(cmd.Env, "HOME=/nonexistent")
}

func chownAll(t *testing.T, dir string) {
	t.Helper()
	must(t, "chown", "-R", "65534:65534", dir)
}

// As an ordinary user everything comes back but what only root can set, and
// that is said.
func TestOrdinaryUserGetsWhatOneMayHave(t *testing.T) {
	needRoot(t) // to become another
	need(t, "python3", "zstd")
	src := made(t, "--big", "1", "--most", "2000000")
	want := listing(t, src)
	base := open(t)
	s := newStoreAt(t, filepath.Join(base, "repo"))
	for _, mode := range modes {
		snap, _ := s.backup(exitOK, mode, "root.pxar:"+src, "--change-detection-mode", mode)
		chownAll(t, s.dir)
		out := filepath.Join(base, "out-"+mode)
		_, said := s.holdAs(nobody, exitIncomplete, "restore", snap, "root.pxar", out)
		for _, word := range []string{"owner", "device"} {
			if !strings.Contains(said, word) {
				t.Errorf("%s: nothing is said of what could not be set as to %s:\n%s", mode, word, tail(said))
			}
		}
		chownAll(t, s.dir)
		same(t, mode, asAUser(t, want), out, "--ignore", "uid", "--ignore", "gid", "--ignore", "flags", "--ignore", "project",
			"--ignore", "xattr:trusted.", "--ignore", "xattr:security.capability")
		must(t, "chown", "-R", "0:0", s.dir)
	}
}

// asAUser is a listing of what a user can have. Of devices that is number 0:0,
// which overlay file systems use. A file that gets another owner than its own
// does not run as that one.
func asAUser(t *testing.T, listing string) string {
	t.Helper()
	raw, err := os.ReadFile(listing)
	if err != nil {
		t.Fatal(err)
	}
	mode := regexp.MustCompile(`"mode": \d+`) // by its text: paths are no UTF-8
	var kept strings.Builder
	for line := range strings.Lines(string(raw)) {
		if strings.Contains(line, ` device", `) && !strings.Contains(line, `"device": [0, 0]`) {
			continue
		}
		if strings.Contains(line, `"uid": 65534, "gid": 65534`) { // nobody's own
			kept.WriteString(line)
			continue
		}
		kept.WriteString(mode.ReplaceAllStringFunc(line, func(field string) string {
			var bits int
			if _, err := fmt.Sscanf(field, `"mode": %d`, &bits); err != nil {
				t.Fatal(err)
			}
			return fmt.Sprintf(`"mode": %d`, bits&^0o6000)
		}))
	}
	return written(t, kept.String())
}

// open is a new directory that an ordinary user may write to, on a path that
// one may enter.
func open(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "holdfast-user-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = remove(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// What a user may not read is left out, and said.
func TestUnreadableFilesAreLeftOutAndSaid(t *testing.T) {
	needRoot(t)
	need(t, "python3", "zstd")
	base := open(t)
	src := filepath.Join(base, "src")
	for _, d := range []string{src, filepath.Join(src, "closed"), filepath.Join(src, "open")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"secret", "public", "closed/x", "open/y"} {
		if err := os.WriteFile(filepath.Join(src, f), []byte(f), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"secret", "closed"} {
		if err := os.Chmod(filepath.Join(src, f), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, mode := range modes {
		s := newStoreAt(t, filepath.Join(base, "repo-"+mode))
		chownAll(t, s.dir)
		_, said := s.holdAs(nobody, exitIncomplete, "backup", "--backup-type", "host", "--backup-id", "user", "--backup-time", "1700000000",
			"root.pxar:"+src, "--change-detection-mode", mode)
		for _, word := range []string{"secret", "closed"} {
			if !strings.Contains(said, word) {
				t.Errorf("%s: %q is not named: %s", mode, word, tail(said))
			}
		}
		got := strings.Join(s.paths("host/user/2023-11-14T22:13:20Z", "root.pxar"), " ")
		if got != "open/ open/y public" && got != "closed/ open/ open/y public" {
			t.Errorf("%s: %q was backed up", mode, got)
		}
	}
}
