package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/access/tfa"
	"github.com/holdfast-backup/holdfast/internal/accounts"
	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/secret"
)

// phone is an authenticator that reads the URI which a command shows.
type phone struct {
	t     *testing.T
	shown *bytes.Buffer
	env   *Env
	wrong bool
}

func (p phone) Ask(string) (secret.Secret, error) {
	i := strings.Index(p.shown.String(), "otpauth://")
	if i < 0 {
		p.t.Fatalf("no URI was shown: %s", p.shown)
	}
	uri, _, _ := strings.Cut(p.shown.String()[i:], "\n")
	totp, err := tfa.ParseTOTP(uri)
	if err != nil {
		p.t.Fatal(err)
	}
	count := p.env.Now().Unix() / totp.Period
	if p.wrong {
		count -= 100
	}
	return secret.New([]byte(totp.Code(count))), nil
}

func TestAnAuthenticatorIsAddedWhenItWorks(t *testing.T) {
	d := confdir.New(filepath.Join(t.TempDir(), "conf"))
	if err := d.Make(); err != nil {
		t.Fatal(err)
	}
	store := accounts.NewStore(d, nil)
	ann := names.AuthID{User: "ann", Realm: "pbs"}
	if err := store.ChangeUsers(t.Context(), "", func(u *access.Users) error { return u.Add(access.Account{ID: ann}) }); err != nil {
		t.Fatal(err)
	}
	add := func(wrong bool) (int, int) {
		e := testEnv(t)
		var shown bytes.Buffer
		e.Rand, e.Stderr = rand.Reader, &shown
		e.Asker = phone{t, &shown, &e, wrong}
		code := Main(context.Background(), e, []string{"server", "user", "tfa", "add", "totp", "ann@pbs", "--config", d.Path()})
		c, err := store.TFA()
		if err != nil {
			t.Fatal(err)
		}
		return code, len(c.List("ann@pbs"))
	}
	if code, n := add(true); code == exitOK || n != 0 {
		t.Errorf("a wrong code: %d, and there are %d factors", code, n)
	}
	if code, n := add(false); code != exitOK || n != 1 {
		t.Errorf("the right code: %d, and there are %d factors", code, n)
	}
}
