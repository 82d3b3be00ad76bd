//go:build linux

package pamcheck_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/accounts"
	"github.com/holdfast-backup/holdfast/internal/accounts/pam"
	"github.com/holdfast-backup/holdfast/internal/pamcheck"
	"github.com/holdfast-backup/holdfast/internal/secret"
)

// The hash is of "hunter2 ä", by libxcrypt 4.4.33.
const hash = "$6$.2U.1EE/4Q.07ck0$CE6xcEWeIo/joDaiWDiK7rTOOhv6oYvX/Npb7HYo7CzCLyTACe9wfdHPM/FJZ/6halwuCJb4f4HnBFgNdLF4g0"

// program builds holdfast-pam, and returns the path of a script that runs it where
// other users live: in a mount namespace with passwd and shadow of its own.
func program(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("only root can try passwords of users that are made up")
		}
		t.Skip("only root can try passwords of users that are made up")
	}
	for _, p := range []string{"unshare", "mount", "unix_chkpwd"} {
		if _, err := exec.LookPath(p); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is not here", p)
			}
			t.Skipf("%s is not here", p)
		}
	}
	dir := t.TempDir()
	bin := filepath.Join(dir, "holdfast-pam")
	build := exec.Command("go", "build", "-o", bin, "github.com/holdfast-backup/holdfast/cmd/holdfast-pam")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	today := time.Now().Unix() / 86400
	passwd, shadow := "root:x:0:0::/root:/bin/sh\n", "root:*:19000:0:99999:7:::\n"
	for i, u := range []struct{ name, hash, age string }{
		{"good", hash, fmt.Sprintf("%d:0:99999:7:::", today)},
		{"locked", "!" + hash, fmt.Sprintf("%d:0:99999:7:::", today)},
		{"nopassword", "", fmt.Sprintf("%d:0:99999:7:::", today)},
		{"gone", hash, fmt.Sprintf("%d:0:99999:7::%d:", today, today-10)},
		{"old", hash, "0:0:99999:7:::"},
	} {
		passwd += fmt.Sprintf("%s:x:%d:%d::/:/bin/false\n", u.name, 50000+i, 50000)
		shadow += fmt.Sprintf("%s:%s:%s\n", u.name, u.hash, u.age)
	}
	script := filepath.Join(dir, "run")
	text := fmt.Sprintf("#!/bin/sh\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\nexec unshare -m --propagation private sh -c "+
		"'mount --bind %[1]s/passwd /etc/passwd && mount --bind %[1]s/shadow /etc/shadow && exec %[1]s/holdfast-pam \"$@\"' sh \"$@\"\n", dir)
	for name, content := range map[string]string{"passwd": passwd, "shadow": shadow, "run": text} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), map[bool]os.FileMode{true: 0o700, false: 0o640}[name == "run"]); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "passwd"), 0o644); err != nil {
		t.Fatal(err)
	}
	return script
}

func TestPasswordsOfUsersOfTheMachine(t *testing.T) {
	script := program(t)
	for name, tc := range map[string]struct {
		user, password string
		want           pamcheck.Result
	}{
		"the password":                 {"good", "hunter2 ä", pamcheck.OK},
		"another password":             {"good", "hunter3", pamcheck.Wrong},
		"with a line end":              {"good", "hunter2 ä\n", pamcheck.Wrong},
		"no password":                  {"good", "", pamcheck.Wrong},
		"a zero byte behind it":        {"good", "hunter2 ä\x00", pamcheck.Wrong},
		"a long password":              {"good", strings.Repeat("x", 600), pamcheck.Wrong},
		"a user that there is not":     {"nobodyhere", "hunter2 ä", pamcheck.Wrong},
		"a user without a password":    {"nopassword", "x", pamcheck.Wrong},
		"a locked user":                {"locked", "hunter2 ä", pamcheck.Wrong},
		"root, who has no password":    {"root", "hunter2 ä", pamcheck.Wrong},
		"an account that expired":      {"gone", "hunter2 ä", pamcheck.Expired},
		"a password that expired":      {"old", "hunter2 ä", pamcheck.Expired},
		"a name that is an option":     {"-v", "hunter2 ä", pamcheck.Wrong},
		"a name that is a path":        {"../good", "hunter2 ä", pamcheck.Wrong},
		"wrong for an expired account": {"gone", "hunter3", pamcheck.Wrong},
	} {
		cmd := exec.Command(script, "check", tc.user)
		cmd.Stdin = strings.NewReader(tc.password)
		out, err := cmd.Output()
		if want := fmt.Sprintf("{\"result\":%q}\n", tc.want); err != nil || string(out) != want {
			t.Errorf("%s: %q, %v, want %q", name, out, err, want)
		}
		cmd = exec.Command(script, "serve")
		cmd.Stdin = strings.NewReader(tc.user + "\n" + tc.password)
		out, err = cmd.Output()
		if want := fmt.Sprintf("{\"result\":%q}\n", tc.want); err != nil || string(out) != want {
			t.Errorf("%s, on a connection: %q, %v, want %q", name, out, err, want)
		}
		err = pam.Realm{Path: script}.Check(t.Context(), tc.user, secret.New([]byte(tc.password)), "")
		if (err == nil) != (tc.want == pamcheck.OK) || err != nil && !errors.Is(err, accounts.ErrRefused) {
			t.Errorf("%s, through the realm: %v", name, err)
		}
	}
}

func TestWhatCannotBeFoundOutIsNoAnswer(t *testing.T) {
	script := program(t)
	dir := filepath.Dir(script)
	if err := os.WriteFile(filepath.Join(dir, "shadow"), nil, 0o640); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(script, "check", "good")
	cmd.Stdin = strings.NewReader("hunter2 ä")
	if out, err := cmd.Output(); err == nil || len(out) != 0 {
		t.Errorf("a user without an entry in shadow: %q", out)
	}
	for _, args := range [][]string{{}, {"serve"}, {"serve", "good"}, {"check"}, {"good"}, {"check", "good", "x"}, {"--help"}} {
		var out bytes.Buffer
		if err := pamcheck.Run(context.Background(), args, strings.NewReader("x"), &out); err == nil || out.Len() != 0 {
			t.Errorf("%q: %q, %v", args, out.String(), err)
		}
	}
}
