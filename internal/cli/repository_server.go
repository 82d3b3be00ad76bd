package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/address"
	"github.com/holdfast-backup/holdfast/internal/proto/trust"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/remote"
	"github.com/holdfast-backup/holdfast/internal/secret"
)

// end is one of the two ends of a sync, and where its password and fingerprint come
// from.
type end struct{ password, fingerprint string } // names of variables, without their prefix

var (
	nearEnd = end{"PASSWORD", "FINGERPRINT"}
	farEnd  = end{"REMOTE_PASSWORD", "REMOTE_FINGERPRINT"}
)

// openServer opens a datastore on a server. Password and fingerprint come from
// the environment, from what was remembered, or from a person.
func (a *app) openServer(where address.Address, from end) (repo.Repository, error) {
	fingerprint, err := a.fingerprint(where, from)
	if err != nil {
		return nil, err
	}
	o := remote.Options{
		Fingerprint: fingerprint,
		Agent:       "holdfast/" + a.Version,
		Password:    func(ctx context.Context) (secret.Secret, error) { return a.passwordOf(ctx, where, from) },
	}
	if a.Asker != nil {
		o.Trust = func(_ context.Context, u *trust.UntrustedError) error { return a.askTrust(where, u) }
		o.Factor = func(_ context.Context, f remote.Factors) (secret.Secret, error) { return a.askFactor(where, f) }
	}
	r, err := remote.Open(where, o)
	if err != nil { // not a typed nil
		return nil, err
	}
	return r, nil
}

// passwordOf is the password of who logs in. What is said of the other end of a sync
// comes first there, and what is said of any server else.
func (a *app) passwordOf(ctx context.Context, where address.Address, from end) (secret.Secret, error) {
	if from != nearEnd {
		if p, ok, err := a.secrets().FromEnv(ctx, from.password); ok || err != nil {
			return p, err
		}
	}
	what := "password of " + where.Auth.String()
	if where.Auth.IsToken() {
		what = "secret of the API token " + where.Auth.String()
	}
	return a.secrets().Get(ctx, nearEnd.password, what+" on "+where.Server())
}

// askFactor asks a person for a second factor.
func (a *app) askFactor(where address.Address, f remote.Factors) (secret.Secret, error) {
	what := "recovery code"
	switch {
	case f.TOTP && f.Recovery:
		what = "one-time password, or a recovery code,"
	case f.TOTP:
		what = "one-time password"
	}
	return a.Asker.Ask(what + " of " + where.Auth.String() + " on " + where.Server() + ": ")
}

// fingerprintsFile is where fingerprints are remembered, ours and the existing
// client's: a line for each server, its name and the fingerprint.
const fingerprintsFile = "fingerprints"

// fingerprint is what the certificate of a server has to have; zero if nobody has
// said.
func (a *app) fingerprint(where address.Address, from end) (address.Fingerprint, error) {
	for _, name := range []string{from.fingerprint, nearEnd.fingerprint} {
		text := a.getenv("HOLDFAST_"+name, "PBS_"+name)
		if text == "" {
			continue
		}
		f, err := address.ParseFingerprint(text)
		if err != nil {
			return f, usage(fmt.Errorf("PBS_%s: %w", name, err))
		}
		return f, nil
	}
	for _, dir := range a.configDirs() {
		b, err := os.ReadFile(filepath.Join(dir, fingerprintsFile))
		if err != nil {
			continue // there is none, or none for us
		}
		for line := range strings.Lines(string(b)) {
			server, text, ok := strings.Cut(strings.TrimSpace(line), " ")
			if !ok || server != where.Server() && server != where.Host {
				continue
			}
			if f, err := address.ParseFingerprint(strings.TrimSpace(text)); err == nil {
				return f, nil
			}
		}
	}
	return address.Fingerprint{}, nil
}

// askTrust shows the certificate of a server that nobody vouches for, and
// remembers it if the person does.
func (a *app) askTrust(where address.Address, u *trust.UntrustedError) error {
	a.say("%s has a certificate that no authority vouches for:\n  %v\n  fingerprint: %s", where.Server(), u.Err, u.Has)
	a.say("Compare the fingerprint with the one that the server's administrator sees.")
	_, _ = fmt.Fprint(a.Stderr, "Trust this server from now on? (y/n): ")
	answer, err := readLine(a.Stdin)
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if word := strings.ToLower(strings.TrimSpace(answer)); word != "y" && word != "yes" {
		return u
	}
	if err := a.remember(where, u.Has); err != nil {
		a.warn("the fingerprint was not remembered: %v", err)
	}
	return nil
}

// readLine reads a line and nothing behind it: what follows may be for somebody
// else.
func readLine(r io.Reader) (string, error) {
	var line []byte
	var one [1]byte
	for len(line) < 1<<10 {
		n, err := r.Read(one[:])
		if n > 0 && one[0] == '\n' {
			return string(line), nil
		}
		line = append(line, one[:n]...)
		if errors.Is(err, io.EOF) {
			return string(line), nil
		}
		if err != nil {
			return "", err
		}
	}
	return "", errors.New("the line is too long")
}

func (a *app) remember(where address.Address, f address.Fingerprint) (err error) {
	dirs := a.configDirs()
	if len(dirs) == 0 {
		return errors.New("neither HOME nor XDG_CONFIG_HOME is set")
	}
	if err := os.MkdirAll(dirs[0], 0o700); err != nil {
		return err
	}
	file, err := os.OpenFile(filepath.Join(dirs[0], fingerprintsFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	_, err = fmt.Fprintf(file, "%s %s\n", where.Server(), f)
	return err
}
