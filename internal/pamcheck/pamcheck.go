//go:build linux

// Package pamcheck checks the password of one user of this machine. It is all that
// the program holdfast-pam does, which runs with the rights of root so that the
// server need not.
//
// # How
//
// unix_chkpwd, the helper that comes with Linux-PAM, compares a password with
// /etc/shadow, and says whether the account is expired. So users of the machine's own
// files can log in. Those that only other modules of PAM know, as from a directory
// service, cannot; neither do other modules see the attempt.
//
// It is started in two ways:
//
//	holdfast-pam check USER   by the server; standard input is the password
//	holdfast-pam serve        by the service manager, for each connection to a socket
//	                          that only the server may use: standard input and output are
//	                          the connection, on which come a line with the name, and the
//	                          password
//
// The second is for a server that cannot start anything with more rights than its own.
// The password has no line end and goes up to the end of the input, at most 511 bytes.
// The answer is one line of JSON:
//
//	{"result":"ok"}        it is the password of a user who may log in
//	{"result":"wrong"}     it is not, or there is no such user
//	{"result":"expired"}   it is, and account or password are expired
//
// If nobody can tell, there is no answer and the exit status is 1.
//
// # Source
//
// Linux-PAM 1.5: modules/pam_unix/unix_chkpwd.c, passverify.c; libpam/include/
// security/_pam_types.h.
package pamcheck

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"strings"
	"syscall"
)

// Result is what comes out.
type Result string

// The results.
const (
	OK      Result = "ok"
	Wrong   Result = "wrong"
	Expired Result = "expired"
)

// MaxPassword is the longest password, in bytes.
const MaxPassword = 511

// Answer is the line on standard output.
type Answer struct {
	Result Result `json:"result"`
}

// maxName is the longest name of a user, in bytes.
const maxName = 64

// places are where unix_chkpwd is.
var places = []string{"/usr/sbin/unix_chkpwd", "/sbin/unix_chkpwd"}

// Exit codes of unix_chkpwd, which are PAM's.
const (
	success     = 0
	authErr     = 7
	userUnknown = 10
	newPassword = 12
	acctExpired = 13
)

// Run is the program: it reads a password and writes the answer.
func Run(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	serve := len(args) == 1 && args[0] == "serve"
	if !serve && (len(args) != 2 || args[0] != "check") {
		return errors.New("usage: holdfast-pam check USER, with the password on standard input; or holdfast-pam serve, with a line with the user before it")
	}
	const most = maxName + 1 + MaxPassword
	password, err := io.ReadAll(io.LimitReader(in, most+1))
	if err != nil {
		return fmt.Errorf("read the password: %w", err)
	}
	defer clear(password)
	name, secret := "", password
	if serve {
		line, rest, ok := bytes.Cut(password, []byte("\n"))
		if !ok {
			return errors.New("there is no line with a user")
		}
		name, secret = string(line), rest
	} else {
		name = args[1]
	}
	result, err := Check(ctx, name, secret)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(Answer{result})
}

// Check checks a password.
func Check(ctx context.Context, name string, password []byte) (Result, error) {
	if !plausible(name) || len(password) == 0 || len(password) > MaxPassword || bytes.IndexByte(password, 0) >= 0 {
		return Wrong, nil
	}
	// unix_chkpwd has the same status for a user that it does not find and for files
	// that it cannot read.
	if _, err := user.Lookup(name); errors.As(err, new(user.UnknownUserError)) {
		return Wrong, nil
	} else if err != nil {
		return "", fmt.Errorf("look for user %s: %w", name, err)
	}
	path, err := find()
	if err != nil {
		return "", err
	}
	switch code, err := run(ctx, path, name, "nonull", append(bytes.Clone(password), 0)); {
	case err != nil:
		return "", err
	case code == authErr || code == userUnknown:
		return Wrong, nil
	case code != success:
		return "", fmt.Errorf("%s ended with status %d", path, code)
	}
	switch code, err := run(ctx, path, name, "chkexpiry", nil); {
	case err != nil:
		return "", err
	case code == success:
		return OK, nil
	case code == newPassword || code == acctExpired:
		return Expired, nil
	default:
		return "", fmt.Errorf("%s ended with status %d on the age of the account", path, code)
	}
}

// plausible reports whether a name may be handed to another program.
func plausible(name string) bool {
	return name != "" && len(name) <= maxName && name[0] != '-' && !strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r == ':' || r == '/' || r == 0x7f
	})
}

func find() (string, error) {
	for _, p := range places {
		if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() {
			return p, nil
		}
	}
	return "", fmt.Errorf("%s is missing: it comes with PAM (Debian: libpam-modules-bin)", places[0])
}

// run starts unix_chkpwd and returns its exit code.
func run(ctx context.Context, path, name, option string, in []byte) (int, error) {
	cmd := exec.CommandContext(ctx, path, name, option)
	cmd.Env, cmd.Dir = []string{}, "/"
	cmd.Stdin = bytes.NewReader(in)
	if os.Geteuid() == 0 && os.Getuid() != 0 {
		// It looks at who really calls it: root, also where this program is setuid. Who
		// is root already may lack the right to become anybody.
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 0, Gid: 0}}
	}
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, errors.Join(err, context.Cause(ctx)))
	}
	return 0, nil
}
