package remote_test

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/access/tfa"
	"github.com/holdfast-backup/holdfast/internal/format/address"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/trust"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/remote"
	"github.com/holdfast-backup/holdfast/internal/secret"
)

func TestWrongPasswordIsToldEverywhere(t *testing.T) {
	s := newSite(t)
	o := s.options()
	o.Password = func(context.Context) (secret.Secret, error) { return secret.New([]byte("wrong")), nil }
	r := s.open(o)
	_, lists := r.Groups(t.Context(), names.Root)
	_, begins := r.Begin(t.Context(), repo.Begin{Snapshot: vm100})
	_, opens := r.Open(t.Context(), vm100)
	for what, err := range map[string]error{"list": lists, "begin": begins, "open": opens} {
		if !errors.Is(err, remote.ErrLogin) || !strings.Contains(err.Error(), s.address.Server()) || !strings.Contains(err.Error(), "admin@pbs") {
			t.Errorf("%s: %v", what, err)
		}
		if strings.Contains(err.Error(), "wrong") {
			t.Errorf("%s shows the password: %v", what, err)
		}
	}
	o.Password = func(context.Context) (secret.Secret, error) { return secret.Secret{}, errors.New("nobody to ask") }
	if _, err := s.open(o).Groups(t.Context(), names.Root); err == nil || !strings.Contains(err.Error(), "nobody to ask") {
		t.Errorf("no password: %v", err)
	}
}

func TestTokenNeedsNoLogin(t *testing.T) {
	s := newSite(t)
	key, err := s.accounts.AddToken(t.Context(), "", access.Account{ID: auth("admin@pbs!auto")})
	s.ok(err)
	s.grant("admin@pbs!auto", access.Admin)
	a := s.address
	a.Auth = auth("admin@pbs!auto")
	o := s.options()
	var asked atomic.Int64
	o.Password = func(context.Context) (secret.Secret, error) { asked.Add(1); return key, nil }
	r := open(t, a, o)
	save(t, r, vm100, image(1))
	infos, err := r.Snapshots(t.Context(), names.Root, nil)
	if err != nil || len(infos) != 1 || infos[0].Owner != "admin@pbs!auto" || asked.Load() != 1 {
		t.Fatalf("%+v, %v, asked %d times", infos, err, asked.Load())
	}
	if r.Location() != "admin@pbs!auto@"+s.address.Server()+":tank" {
		t.Errorf("location %q", r.Location())
	}
	o.Password = func(context.Context) (secret.Secret, error) { return secret.New([]byte("wrong")), nil }
	if _, err := open(t, a, o).Groups(t.Context(), names.Root); !errors.Is(err, remote.ErrLogin) {
		t.Errorf("a wrong secret: %v", err)
	}
}

func TestTicketIsRenewedWithoutThePassword(t *testing.T) {
	s := newSite(t)
	o := s.options()
	var asked atomic.Int64
	o.Password = func(context.Context) (secret.Secret, error) {
		asked.Add(1)
		return secret.New([]byte(password)), nil
	}
	var ahead atomic.Int64
	o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	r := s.open(o)
	for _, hours := range []time.Duration{0, 1, 3, 30} { // used as it is; renewed; too old to be renewed, twice
		ahead.Store(int64(hours*time.Hour + time.Minute))
		if _, err := r.Groups(t.Context(), names.Root); err != nil {
			t.Fatalf("after %d hours: %v", hours, err)
		}
	}
	if asked.Load() != 1 {
		t.Errorf("the password was asked for %d times", asked.Load())
	}
}

func TestPrivilegesAreTheServers(t *testing.T) {
	s := newSite(t)
	save(t, s.open(s.options()), vm100, image(1))
	s.user("joe@pbs", "DatastoreBackup")
	a := s.address
	a.Auth = auth("joe@pbs")
	joe := open(t, a, s.options())
	_, err := joe.Begin(t.Context(), repo.Begin{Snapshot: at(vm100, 1)})
	is(t, "somebody else's group", err, repo.ErrOwner)
	_, err = joe.Begin(t.Context(), repo.Begin{Snapshot: names.Snapshot{Group: names.Group{Type: names.VM, ID: "7"}, Time: 1}, Owner: "root@pam"})
	is(t, "a group for somebody else", err, repo.ErrOwner)
	save(t, joe, names.Snapshot{Group: names.Group{Type: names.VM, ID: "7"}, Time: 1}, image(2))
	if infos, err := joe.Snapshots(t.Context(), names.Root, nil); err != nil || len(infos) != 1 {
		t.Errorf("joe sees %d snapshots, %v", len(infos), err)
	}
	if err := joe.CreateNamespace(t.Context(), "x"); err == nil || errors.Is(err, repo.ErrNotFound) || errors.Is(err, remote.ErrLogin) {
		t.Errorf("a namespace without the right to: %v", err)
	}
}

func TestUnknownCertificateIsAskedAboutOnce(t *testing.T) {
	s := newSite(t)
	o := s.options()
	o.Fingerprint = address.Fingerprint{}
	r := s.open(o)
	_, err := r.Groups(t.Context(), names.Root)
	if u, ok := errors.AsType[*trust.UntrustedError](err); !ok || u.Has != s.fingerprint {
		t.Errorf("nobody to ask: %v", err)
	}
	var asked atomic.Int64
	o.Trust = func(_ context.Context, u *trust.UntrustedError) error {
		if asked.Add(1); u.Has != s.fingerprint {
			t.Errorf("asked about %s", u.Has)
		}
		return nil
	}
	r = s.open(o)
	save(t, r, vm100, image(1))
	if _, err := r.Groups(t.Context(), names.Root); err != nil || asked.Load() != 1 {
		t.Errorf("%v, asked %d times", err, asked.Load())
	}
	no := errors.New("not this one")
	o.Trust = func(context.Context, *trust.UntrustedError) error { return no }
	if _, err := s.open(o).Groups(t.Context(), names.Root); !errors.Is(err, no) {
		t.Errorf("refused: %v", err)
	}
	// A fingerprint that is given and wrong is no question.
	o.Fingerprint = address.FingerprintOf([]byte("other"))
	o.Trust = func(context.Context, *trust.UntrustedError) error { t.Error("asked"); return nil }
	_, err = s.open(o).Groups(t.Context(), names.Root)
	if u, ok := errors.AsType[*trust.UntrustedError](err); !ok || u.Expected.IsZero() {
		t.Errorf("another fingerprint: %v", err)
	}
}

func TestAddressesOfEveryKindAreDialled(t *testing.T) {
	for _, text := range []string{"[fe80::1%nowhere]:9:tank", "[::1]:9:tank", "127.0.0.1:9:tank"} {
		a, err := address.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		_, err = open(t, a, remote.Options{
			Password: func(context.Context) (secret.Secret, error) { return secret.New([]byte("x")), nil },
		}).Groups(t.Context(), names.Root)
		if err == nil || !strings.Contains(err.Error(), "dial tcp "+strings.TrimSuffix(text, ":tank")) && !strings.Contains(err.Error(), "nowhere") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// A user with a second factor is asked for it, by its kind; the answer is not asked
// for again while the ticket can be renewed.
func TestSecondFactorIsAskedForAtTheLogin(t *testing.T) {
	s := newSite(t)
	totp, err := tfa.New("here", "admin@pbs", rand.Reader)
	s.ok(err)
	var codes []string
	enrolled := time.Now().Add(-time.Hour)
	s.ok(s.accounts.ChangeTFA(t.Context(), func(c *tfa.Config) (err error) {
		if codes, err = c.AddRecovery("admin@pbs", enrolled, rand.Reader); err != nil {
			return err
		}
		return c.AddTOTP("admin@pbs", "one", "", totp, totp.Code(enrolled.Unix()/30), enrolled)
	}))
	o := s.options()
	if _, err := s.open(o).Groups(t.Context(), names.Root); !errors.Is(err, remote.ErrLogin) || !strings.Contains(err.Error(), "use an API token") {
		t.Errorf("nobody to ask: %v", err)
	}
	var asked []remote.Factors
	answer := func(code string) {
		o.Factor = func(_ context.Context, f remote.Factors) (secret.Secret, error) {
			asked = append(asked, f)
			return secret.New([]byte(code)), nil
		}
	}
	answer("12345678")
	if _, err := s.open(o).Groups(t.Context(), names.Root); !errors.Is(err, remote.ErrLogin) || !strings.Contains(err.Error(), "the answer is wrong") {
		t.Errorf("a wrong answer: %v", err)
	}
	for name, code := range map[string]string{"an authenticator": totp.Code(time.Now().Unix() / 30), "a recovery code": codes[3] + "\n"} {
		asked = nil
		answer(code)
		r := s.open(o)
		for range 2 {
			if _, err := r.Groups(t.Context(), names.Root); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if len(asked) != 1 || asked[0] != (remote.Factors{TOTP: true, Recovery: true}) {
			t.Errorf("%s: asked %v", name, asked)
		}
	}
}
