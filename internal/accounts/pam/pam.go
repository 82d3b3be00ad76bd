// Package pam is the realm of the users of this machine. Their passwords are checked
// by a small program with the rights of root, holdfast-pam, of which a server knows
// the path and nothing else.
package pam

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
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

// Realm is the realm, with the path of its program.
type Realm struct{ Path string }

var _ accounts.Realm = Realm{}

// Check implements [accounts.Realm].
func (r Realm) Check(ctx context.Context, user string, password secret.Secret, _ string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("the password check of the machine takes too long"))
	defer cancel()
	cmd := exec.CommandContext(ctx, r.Path, "check", user)
	cmd.Env, cmd.Dir = []string{}, "/"
	cmd.Stdin = bytes.NewReader(password.Reveal())
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	switch exit, ok := errors.AsType[*exec.ExitError](err); {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("passwords of realm pam cannot be checked: %s is not installed", r.Path)
	case ok && context.Cause(ctx) == nil:
		return fmt.Errorf("%s: %w: %s", r.Path, err, strings.TrimSpace(string(exit.Stderr)))
	case err != nil:
		return fmt.Errorf("%s: %w", r.Path, errors.Join(err, context.Cause(ctx)))
	}
	var answer struct{ Result string }
	if err := json.Unmarshal(out, &answer); err != nil {
		return fmt.Errorf("%s gave no answer: %w", r.Path, err)
	}
	switch answer.Result {
	case "ok":
		return nil
	case "wrong":
		return fmt.Errorf("%w: wrong password, or no user of this machine", accounts.ErrRefused)
	case "expired":
		return fmt.Errorf("%w: the password is right, and it or the account is expired", accounts.ErrRefused)
	}
	return fmt.Errorf("%s gave an answer that is not known: %q", r.Path, answer.Result)
}
