// Package pam is the realm of the users of this machine. Their passwords are checked
// by a small program with the rights of root, holdfast-pam, of which a server knows
// the path and nothing else: see internal/pamcheck.
//
// A server that may not get more rights by starting a program, as a service with
// NoNewPrivileges, asks the same program through a socket behind which the service
// manager starts it. Where the socket is, it is used; else the program is started.
package pam

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/accounts"
	"github.com/holdfast-backup/holdfast/internal/secret"
)

// Name is the name of the realm.
const Name = "pam"

// Helper is where the program is installed. The environment does not choose it.
const Helper = "/usr/lib/holdfast/holdfast-pam"

const patience = 30 * time.Second

// Socket is where the service manager listens for it: see deploy/systemd.
const Socket = "/run/holdfast/pam.sock"

// Realm is the realm.
type Realm struct {
	Path   string // of the program
	Socket string // asked instead, if it is there
}

var _ accounts.Realm = Realm{}

// Check implements [accounts.Realm].
func (r Realm) Check(ctx context.Context, user string, password secret.Secret, _ string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("the password check of the machine takes too long"))
	defer cancel()
	if _, err := os.Stat(r.Socket); err == nil {
		out, err := r.ask(ctx, user, password)
		if err != nil {
			return fmt.Errorf("%s: %w", r.Socket, errors.Join(err, context.Cause(ctx)))
		}
		return verdict(r.Socket, out)
	}
	out, err := r.start(ctx, user, password)
	if err != nil {
		return err
	}
	return verdict(r.Path, out)
}

// ask sends a line with the user, and the password, and reads the answer.
func (r Realm) ask(ctx context.Context, user string, password secret.Secret) (out []byte, err error) {
	if strings.Contains(user, "\n") {
		return nil, errors.New("the name of the user has a line end in it")
	}
	c, err := new(net.Dialer).DialContext(ctx, "unix", r.Socket)
	if err != nil {
		return nil, err
	}
	conn := c.(*net.UnixConn)
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() { err = errors.Join(err, conn.Close()) }()
	if _, err := conn.Write(append([]byte(user+"\n"), password.Reveal()...)); err != nil {
		return nil, err
	}
	if err := conn.CloseWrite(); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(conn, 4<<10))
}

// start runs the program.
func (r Realm) start(ctx context.Context, user string, password secret.Secret) ([]byte, error) {
	cmd := exec.CommandContext(ctx, r.Path, "check", user)
	cmd.Env, cmd.Dir = []string{}, "/"
	cmd.Stdin = bytes.NewReader(password.Reveal())
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	switch exit, ok := errors.AsType[*exec.ExitError](err); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("passwords of realm pam cannot be checked: %s is not installed", r.Path)
	case ok && context.Cause(ctx) == nil:
		return nil, fmt.Errorf("%s: %w: %s", r.Path, err, strings.TrimSpace(string(exit.Stderr)))
	case err != nil:
		return nil, fmt.Errorf("%s: %w", r.Path, errors.Join(err, context.Cause(ctx)))
	}
	return out, nil
}

// verdict is what an answer means.
func verdict(who string, out []byte) error {
	var answer struct{ Result string }
	if err := json.Unmarshal(out, &answer); err != nil {
		return fmt.Errorf("%s gave no answer: %w", who, err)
	}
	switch answer.Result {
	case "ok":
		return nil
	case "wrong":
		return fmt.Errorf("%w: wrong password, or no user of this machine", accounts.ErrRefused)
	case "expired":
		return fmt.Errorf("%w: the password is right, and it or the account is expired", accounts.ErrRefused)
	}
	return fmt.Errorf("%s gave an answer that is not known: %q", who, answer.Result)
}
