//go:build unix

package accounts_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/access/tfa"
	"github.com/holdfast-backup/holdfast/internal/accounts"
	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/secret"
)

func id(t testing.TB, s string) names.AuthID {
	t.Helper()
	a, err := names.ParseAuthID(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func pw(s string) secret.Secret { return secret.New([]byte(s)) }

// must has what a test needs; without it the test makes no sense.
func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// open returns the accounts in a new directory, with ann@pbs who has a password.
func open(t testing.TB) (*accounts.Store, *accounts.Gate) {
	t.Helper()
	s := accounts.NewStore(confdir.New(t.TempDir()), slog.New(slog.DiscardHandler))
	ann := id(t, "ann@pbs")
	must(t, s.ChangeUsers(t.Context(), "", func(u *access.Users) error { return u.Add(access.Account{ID: ann}) }),
		s.SetPassword(t.Context(), ann, pw("correct horse")))
	return s, gate(t, s)
}

func gate(t testing.TB, s *accounts.Store) *accounts.Gate {
	t.Helper()
	g, err := accounts.OpenGate(s, map[string]accounts.Realm{"pam": pam{}})
	must(t, err)
	return g
}

// pam is a realm in which root's password is "toor", and nobody can ask for any
// other user.
type pam struct{}

var errAway = errors.New("nobody answers")

func (pam) Check(_ context.Context, user string, password secret.Secret, _ string) error {
	switch {
	case user != "root":
		return errAway
	case !password.Equal(pw("toor")):
		return fmt.Errorf("%w: wrong password", accounts.ErrRefused)
	}
	return nil
}

func login(t testing.TB, g *accounts.Gate, user, password string) (accounts.Grant, error) {
	t.Helper()
	return g.Login(t.Context(), accounts.Login{User: id(t, user), Password: pw(password), Peer: "192.0.2.1"})
}

func cookie(ticket string) []string { return []string{"a=b; PBSAuthCookie=" + ticket} }

func TestPasswordGetsATicketThatOpensTheDoor(t *testing.T) {
	_, g := open(t)
	for user, password := range map[string]string{"ann@pbs": "correct horse", "root@pam": "toor"} {
		got, err := login(t, g, user, password)
		if err != nil || got.Factor || got.User.String() != user {
			t.Fatalf("%s: %+v, %v", user, got, err)
		}
		for name, c := range map[string]accounts.Credentials{
			"a cookie":                          {Cookies: cookie(got.Ticket)},
			"a cookie that is escaped":          {Cookies: cookie(url.PathEscape(got.Ticket))},
			"a cookie with what does not count": {Cookies: []string{"PBSAuthCookie=" + got.Ticket + "; path=/; secure; SameSite=Strict;"}},
			"the cookie of a browser":           {Cookies: []string{"PBSAuthCookie=x; __Host-PBSAuthCookie=" + got.Ticket}},
			"cookies in two headers":            {Cookies: []string{"PBSAuthCookie=x", "__Host-PBSAuthCookie=" + got.Ticket}},
			"a change":                          {Cookies: cookie(got.Ticket), Changes: true, CSRF: got.CSRF},
			"a cookie before a token":           {Cookies: cookie(got.Ticket), Authorization: "PBSAPIToken x@pbs!y:z"},
		} {
			if who, err := g.Who(t.Context(), c); who.String() != user || err != nil {
				t.Errorf("%s: %s, %v", name, who, err)
			}
		}
		for name, c := range map[string]accounts.Credentials{
			"a change without its token":      {Cookies: cookie(got.Ticket), Changes: true},
			"a change with another token":     {Cookies: cookie(got.Ticket), Changes: true, CSRF: got.CSRF + "A"},
			"a damaged ticket":                {Cookies: cookie(got.Ticket + "A")},
			"the browser's cookie is damaged": {Cookies: []string{"__Host-PBSAuthCookie=x; PBSAuthCookie=" + got.Ticket}},
		} {
			if who, err := g.Who(t.Context(), c); !errors.Is(err, accounts.ErrRefused) || who != (names.AuthID{}) {
				t.Errorf("%s: %s, %v", name, who, err)
			}
		}
	}
	if _, err := g.Who(t.Context(), accounts.Credentials{Cookies: []string{"other=1", "PBSAuthCookie=", "x"}, Authorization: "Basic x"}); !errors.Is(err, accounts.ErrNoCredentials) {
		t.Errorf("nobody: %v", err)
	}
}

func TestLoginIsRefused(t *testing.T) {
	s, g := open(t)
	must(t, s.ChangeUsers(t.Context(), "", func(u *access.Users) error {
		return errors.Join(
			u.Add(access.Account{ID: id(t, "off@pbs"), Disabled: true}),
			u.Add(access.Account{ID: id(t, "new@pbs")}),
			u.Add(access.Account{ID: id(t, "bob@ldap")}),
			u.Add(access.Account{ID: id(t, "bob@pam")}))
	}), s.SetPassword(t.Context(), id(t, "off@pbs"), pw("correct horse")))
	for name, tc := range map[string]struct {
		user, password string
		want           error
	}{
		"a wrong password":         {"ann@pbs", "wrong horse", accounts.ErrRefused},
		"no password":              {"ann@pbs", "", accounts.ErrRefused},
		"a user that there is not": {"eve@pbs", "correct horse", accounts.ErrRefused},
		"a user that is disabled":  {"off@pbs", "correct horse", accounts.ErrRefused},
		"a user without password":  {"new@pbs", "correct horse", accounts.ErrRefused},
		"an unknown realm":         {"bob@ldap", "correct horse", accounts.ErrRefused},
		"an API token":             {"ann@pbs!x", "correct horse", accounts.ErrRefused},
		"no ticket, by its form":   {"ann@pbs", "PBS:ann@pbs:66F00000::AAAA", accounts.ErrRefused},
		"a realm that is away":     {"bob@pam", "x", errAway},
	} {
		if got, err := login(t, g, tc.user, tc.password); !errors.Is(err, tc.want) || got.Ticket != "" {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if tc.want != accounts.ErrRefused {
			if _, err := login(t, g, tc.user, tc.password); errors.Is(err, accounts.ErrRefused) {
				t.Errorf("%s is taken for a refusal: %v", name, err)
			}
		}
	}
}

func TestTicketsAreRenewedByTickets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the clock in here is fake
		s, g := open(t)
		first, err := login(t, g, "ann@pbs", "correct horse")
		must(t, err)
		time.Sleep(2 * time.Hour)
		second, err := login(t, g, "ann@pbs", first.Ticket)
		if err != nil || second.Ticket == first.Ticket {
			t.Fatalf("%+v, %v", second, err)
		}
		if _, err := login(t, g, "root@pam", first.Ticket); !errors.Is(err, accounts.ErrRefused) {
			t.Errorf("of another user: %v", err)
		}
		time.Sleep(time.Second)
		if _, err := login(t, g, "ann@pbs", first.Ticket); !errors.Is(err, accounts.ErrRefused) {
			t.Errorf("after two hours: %v", err)
		}
		if _, err := g.Who(t.Context(), accounts.Credentials{Cookies: cookie(first.Ticket)}); !errors.Is(err, accounts.ErrRefused) {
			t.Errorf("a request after two hours: %v", err)
		}
		must(t, s.ChangeUsers(t.Context(), "", func(u *access.Users) error {
			return u.Change(access.Account{ID: id(t, "ann@pbs"), Disabled: true})
		}))
		if _, err := login(t, g, "ann@pbs", second.Ticket); !errors.Is(err, accounts.ErrRefused) {
			t.Errorf("of a user that was disabled: %v", err)
		}
		if _, err := g.Who(t.Context(), accounts.Credentials{Cookies: cookie(second.Ticket)}); !errors.Is(err, accounts.ErrRefused) {
			t.Errorf("a request of a user that was disabled: %v", err)
		}
	})
}

func TestTokensOpenTheDoor(t *testing.T) {
	s, g := open(t)
	nas := id(t, "ann@pbs!nas")
	key, err := s.AddToken(t.Context(), "", access.Account{ID: nas, Comment: "writes only"})
	must(t, err)
	text := string(key.Reveal())
	if len(text) != 36 || strings.ToLower(text) != text {
		t.Errorf("the secret is %q", text)
	}
	who := func(header string) error {
		got, err := g.Who(t.Context(), accounts.Credentials{Authorization: header, Changes: true, Peer: "192.0.2.1"})
		if err == nil && got != nas {
			t.Errorf("%s is of %s", header, got)
		}
		return err
	}
	for range 2 { // the second is not hashed
		for _, h := range []string{"PBSAPIToken ann@pbs!nas:" + text, "PBSAPIToken=ann@pbs!nas:" + text, "PBSAPIToken=ann@pbs!nas:" + strings.ReplaceAll(text, "-", "%2d")} {
			if err := who(h); err != nil {
				t.Errorf("%s: %v", h, err)
			}
		}
	}
	for _, h := range []string{
		"PBSAPIToken ann@pbs!nas:" + text + "0", "PBSAPIToken ann@pbs!nas:", "PBSAPIToken ann@pbs!nas", "PBSAPIToken ann@pbs:" + text,
		"PBSAPIToken ann@pbs!other:" + text, "PBSAPIToken :", "PBSAPIToken  ann@pbs!nas:" + text,
	} {
		if err := who(h); !errors.Is(err, accounts.ErrRefused) {
			t.Errorf("%s: %v", h, err)
		}
	}
	for _, h := range []string{"", "PBSAPIToken", "PBSAPITokenann@pbs!nas:" + text, "PVEAPIToken=ann@pbs!nas:" + text} {
		if err := who(h); !errors.Is(err, accounts.ErrNoCredentials) {
			t.Errorf("%s: %v", h, err)
		}
	}

	again, err := s.RenewToken(t.Context(), "", nas)
	must(t, err)
	if err := who("PBSAPIToken ann@pbs!nas:" + text); !errors.Is(err, accounts.ErrRefused) {
		t.Errorf("the old secret: %v", err)
	}
	header := "PBSAPIToken ann@pbs!nas:" + string(again.Reveal())
	must(t, who(header))
	for name, edit := range map[string]func(u *access.Users) error{
		"the token is disabled":    func(u *access.Users) error { return u.Change(access.Account{ID: nas, Disabled: true}) },
		"the token is expired":     func(u *access.Users) error { return u.Change(access.Account{ID: nas, Expires: time.Unix(1, 0)}) },
		"its user is disabled":     func(u *access.Users) error { return u.Change(access.Account{ID: id(t, "ann@pbs"), Disabled: true}) },
		"the section is not there": func(u *access.Users) error { _, err := u.Remove(nas); return err },
	} {
		before, err := s.Dir().Load(confdir.Users)
		must(t, err, s.ChangeUsers(t.Context(), "", edit))
		if err := who(header); !errors.Is(err, accounts.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
		must(t, s.Dir().Change(t.Context(), confdir.Users, func([]byte) ([]byte, error) { return before, nil }))
		must(t, who(header))
	}
	must(t, s.Remove(t.Context(), "", nas))
	if err := who(header); !errors.Is(err, accounts.ErrRefused) {
		t.Errorf("the token was removed: %v", err)
	}
	if b, _ := s.Dir().Load(confdir.TokenShadow); string(b) != "{}" {
		t.Errorf("left over: %s", b)
	}
}

func TestSecondFactorIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, g := open(t)
		phone, err := tfa.New("Holdfast", "ann@pbs", rand.Reader)
		must(t, err)
		code := func() string { return phone.Code(time.Now().Unix() / 30) }
		must(t, s.ChangeTFA(t.Context(), func(c *tfa.Config) error {
			return c.AddTOTP("ann@pbs", "1", "phone", phone, code(), time.Now())
		}))
		time.Sleep(time.Minute)
		first, err := login(t, g, "ann@pbs", "correct horse")
		if err != nil || !first.Factor || first.CSRF != "invalid" || !strings.Contains(first.Ticket, `!tfa!{"totp"%3Atrue}`) {
			t.Fatalf("%+v, %v", first, err)
		}
		if _, err := g.Who(t.Context(), accounts.Credentials{Cookies: cookie(first.Ticket)}); !errors.Is(err, accounts.ErrRefused) {
			t.Errorf("half a login opens the door: %v", err)
		}
		if _, err := login(t, g, "ann@pbs", first.Ticket); !errors.Is(err, accounts.ErrRefused) {
			t.Errorf("half a login is renewed: %v", err)
		}
		answer := func(user, challenge, answer string) (accounts.Grant, error) {
			return g.Login(t.Context(), accounts.Login{User: id(t, user), Challenge: challenge, Password: pw(answer)})
		}
		for name, try := range map[string]func() (accounts.Grant, error){
			"a wrong code":       func() (accounts.Grant, error) { return answer("ann@pbs", first.Ticket, "totp:12345x") },
			"of another user":    func() (accounts.Grant, error) { return answer("root@pam", first.Ticket, "totp:"+code()) },
			"no challenge":       func() (accounts.Grant, error) { return answer("ann@pbs", "x", "totp:"+code()) },
			"the code alone":     func() (accounts.Grant, error) { return login(t, g, "ann@pbs", "totp:"+code()) },
			"the wrong password": func() (accounts.Grant, error) { return login(t, g, "ann@pbs", "wrong horse") },
		} {
			if got, err := try(); !errors.Is(err, accounts.ErrRefused) || got.Ticket != "" {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
		}
		full, err := answer("ann@pbs", first.Ticket, "totp:"+code())
		if err != nil || full.Factor {
			t.Fatalf("%+v, %v", full, err)
		}
		if who, err := g.Who(t.Context(), accounts.Credentials{Cookies: cookie(full.Ticket)}); err != nil || who.String() != "ann@pbs" {
			t.Errorf("%s, %v", who, err)
		}
		if _, err := answer("ann@pbs", first.Ticket, "totp:"+code()); !errors.Is(err, accounts.ErrRefused) {
			t.Errorf("a code twice: %v", err)
		}
		time.Sleep(10*time.Minute + time.Second)
		if _, err := answer("ann@pbs", first.Ticket, "totp:"+code()); !errors.Is(err, accounts.ErrRefused) {
			t.Errorf("after ten minutes: %v", err)
		}
	})
}

func TestWrongSecondFactorsLockAndAreUnlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, g := open(t)
		phone, err := tfa.New("Holdfast", "ann@pbs", rand.Reader)
		must(t, err, s.ChangeTFA(t.Context(), func(c *tfa.Config) error {
			return c.AddTOTP("ann@pbs", "1", "phone", phone, phone.Code(time.Now().Unix()/30), time.Now())
		}))
		for range 8 {
			time.Sleep(5 * time.Minute)
			first, err := login(t, g, "ann@pbs", "correct horse")
			must(t, err)
			_, _ = g.Login(t.Context(), accounts.Login{User: id(t, "ann@pbs"), Challenge: first.Ticket, Password: pw("totp:wrong"), Peer: "192.0.2.1"})

		}
		c, err := s.TFA()
		must(t, err)
		if locked, _ := c.Locks("ann@pbs", time.Now()); !locked {
			t.Fatal("not locked")
		}
		must(t, g.Unlock(t.Context(), id(t, "ann@pbs")))
		time.Sleep(5 * time.Minute)
		first, err := login(t, g, "ann@pbs", "correct horse")
		must(t, err)
		if _, err := g.Login(t.Context(), accounts.Login{User: id(t, "ann@pbs"), Challenge: first.Ticket, Password: pw("totp:" + phone.Code(time.Now().Unix()/30))}); err != nil {
			t.Error(err)
		}
	})
}

func TestWhoGuessesHasToWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, g := open(t)
		try := func(user, password, peer string) error {
			_, err := g.Login(t.Context(), accounts.Login{User: id(t, user), Password: pw(password), Peer: peer})
			return err
		}
		for range 5 {
			if err := try("ann@pbs", "wrong", "192.0.2.1"); !errors.Is(err, accounts.ErrRefused) {
				t.Fatal(err)
			}
		}
		for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300} {
			err := try("ann@pbs", "correct horse", "192.0.2.1") // even the right one
			if w, ok := errors.AsType[*accounts.WaitError](err); !ok || w.For != want*time.Second || !errors.Is(err, accounts.ErrRefused) {
				t.Fatalf("want %d s: %v", want, err)
			}
			must(t, try("ann@pbs", "correct horse", "192.0.2.2")) // from elsewhere
			time.Sleep(want * time.Second)
			if err := try("ann@pbs", "wrong", "192.0.2.1"); errors.As(err, new(*accounts.WaitError)) {
				t.Fatalf("after %d s: %v", want, err)
			}
		}
		time.Sleep(5 * time.Minute)
		must(t, try("ann@pbs", "correct horse", "192.0.2.1"))
		if err := try("ann@pbs", "wrong", "192.0.2.1"); errors.As(err, new(*accounts.WaitError)) {
			t.Errorf("after a success: %v", err)
		}
		must(t, try("ann@pbs", "correct horse", "192.0.2.1"))
	})
}

func TestWhoTriesManyUsersHasToWaitToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, g := open(t)
		try := func(user, peer string) error {
			_, err := g.Login(t.Context(), accounts.Login{User: id(t, user), Password: pw("toor"), Peer: peer})
			return err
		}
		for i := range 50 {
			if err := try(fmt.Sprintf("user%d@pam", i), fmt.Sprintf("2001:db8::%d", i)); errors.As(err, new(*accounts.WaitError)) {
				t.Fatalf("attempt %d: %v", i, err)
			}
		}
		if err := try("root@pam", "2001:db8::ffff"); !errors.As(err, new(*accounts.WaitError)) {
			t.Errorf("the 51st of a network: %v", err)
		}
		must(t, try("root@pam", "2001:db8:0:1::1"))
		time.Sleep(15*time.Minute + time.Second)
		must(t, try("root@pam", "2001:db8::ffff"))
	})
}

func TestGuessesOfSecretsWaitAndTheRightOneDoesNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, g := open(t)
		key, err := s.AddToken(t.Context(), "", access.Account{ID: id(t, "ann@pbs!nas")})
		must(t, err)
		who := func(key string) error {
			_, err := g.Who(t.Context(), accounts.Credentials{Authorization: "PBSAPIToken ann@pbs!nas:" + key, Peer: "192.0.2.1"})
			return err
		}
		must(t, who(string(key.Reveal())))
		for i := range 6 {
			if err := who("guess"); !errors.Is(err, accounts.ErrRefused) || errors.As(err, new(*accounts.WaitError)) != (i == 5) {
				t.Errorf("guess %d: %v", i, err)
			}
		}
		must(t, who(string(key.Reveal()))) // it is known
	})
}

func TestRemovedUsersLeaveNothingBehind(t *testing.T) {
	s, _ := open(t)
	ann := id(t, "ann@pbs")
	_, err := s.AddToken(t.Context(), "", access.Account{ID: id(t, "ann@pbs!nas")})
	must(t, err, s.ChangeACL(t.Context(), "", func(a *access.ACL) error {
		for _, who := range []string{"ann@pbs", "ann@pbs!nas", "bob@pbs"} {
			a.Grant(access.Entry{Path: "/", Who: access.Who{ID: id(t, who)}, Role: "Audit", Propagate: true})
		}
		a.Grant(access.Entry{Path: "/datastore/x", Who: access.Who{ID: id(t, "ann@pbs!nas")}, Role: access.DatastoreWriteOnly})
		return nil
	}), s.ChangeTFA(t.Context(), func(c *tfa.Config) error {
		_, err := c.AddRecovery("ann@pbs", time.Now(), rand.Reader)
		return err
	}))
	must(t, s.Remove(t.Context(), "", ann))
	want := map[string]string{"user.cfg": "", "acl.cfg": "acl:1:/:bob@pbs:Audit\n", "acl-holdfast.cfg": "", "shadow.json": "{}", "token.shadow": "{}", "tfa.json": "{}"}
	got := map[string]string{}
	for name := range want {
		b, err := os.ReadFile(filepath.Join(s.Dir().Path(), name))
		must(t, err)
		got[name] = string(b)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := s.Remove(t.Context(), "", ann); !errors.Is(err, access.ErrUnknown) {
		t.Errorf("again: %v", err)
	}
}

func TestChangesOfWhatSomebodyElseChangedAreRefused(t *testing.T) {
	s, _ := open(t)
	_, users, err := s.Users()
	must(t, err)
	_, list, err := s.ACL()
	must(t, err)
	grant := func(a *access.ACL) error {
		a.Grant(access.Entry{Path: "/", Who: access.Who{ID: id(t, "ann@pbs")}, Role: "Audit"})
		return nil
	}
	add := func(u *access.Users) error { return u.Add(access.Account{ID: id(t, "bob@pbs")}) }
	must(t, s.ChangeUsers(t.Context(), users.String(), add), s.ChangeACL(t.Context(), list.String(), grant))
	for _, err := range []error{s.ChangeUsers(t.Context(), users.String(), add), s.ChangeACL(t.Context(), list.String(), grant)} {
		if !errors.Is(err, confdir.ErrChanged) {
			t.Error(err)
		}
	}
	if _, err := s.AddToken(t.Context(), users.String(), access.Account{ID: id(t, "ann@pbs!nas")}); !errors.Is(err, confdir.ErrChanged) {
		t.Error(err)
	}
}

func TestATokenThatIsThereKeepsItsSecret(t *testing.T) {
	s, g := open(t)
	key, err := s.AddToken(t.Context(), "", access.Account{ID: id(t, "ann@pbs!nas")})
	must(t, err)
	for name, tc := range map[string]struct {
		id   string
		want error
	}{"again": {"ann@pbs!nas", access.ErrExists}, "of nobody": {"eve@pbs!nas", access.ErrUnknown}, "no token": {"ann@pbs", access.ErrInvalid}} {
		if _, err := s.AddToken(t.Context(), "", access.Account{ID: id(t, tc.id)}); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.RenewToken(t.Context(), "", id(t, "ann@pbs!new")); !errors.Is(err, access.ErrUnknown) {
		t.Error(err)
	}
	_, err = g.Who(t.Context(), accounts.Credentials{Authorization: "PBSAPIToken ann@pbs!nas:" + string(key.Reveal())})
	must(t, err)
	if b, _ := s.Dir().Load(confdir.TokenShadow); strings.Contains(string(b), "eve") || strings.Contains(string(b), string(key.Reveal())) {
		t.Errorf("%s", b)
	}
}

func TestPasswordsAreSetForUsersOfTheRealmOnly(t *testing.T) {
	s, _ := open(t)
	if err := s.SetPassword(t.Context(), id(t, "eve@pbs"), pw("correct horse")); !errors.Is(err, access.ErrUnknown) {
		t.Errorf("nobody: %v", err)
	}
	for name, tc := range map[string]struct{ user, password string }{
		"another realm":       {"root@pam", "correct horse"},
		"a token":             {"ann@pbs!nas", "correct horse"},
		"too short":           {"ann@pbs", "1234567"},
		"too long":            {"ann@pbs", strings.Repeat("x", 65)},
		"a control character": {"ann@pbs", "correct\nhorse"},
	} {
		if err := s.SetPassword(t.Context(), id(t, tc.user), pw(tc.password)); !errors.Is(err, access.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheDirectoryOfAServerWorksAsItIs(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"user.cfg": "user: old@pbs\n\tcomment made years ago\n\ntoken: old@pbs!pve\n\tenable true\n",
		"acl.cfg":  "acl:1:/datastore/tank:old@pbs,old@pbs!pve:DatastoreBackup\n",
		// The password and the secret, by libxcrypt 4.4.33 with SHA-256, as servers made them until 2023.
		"shadow.json":  "{\n  \"old\": \"$5$.2U.1EE/4Q.07ck0$6thD3v2bOLaS4NIjWGfpQAW0kSe9WmLfWtVH9.lYMS2\",\n  \"other\": null\n}",
		"token.shadow": `{"old@pbs!pve":"$5$.2U.1EE/4Q.07ck0$6thD3v2bOLaS4NIjWGfpQAW0kSe9WmLfWtVH9.lYMS2"}`,
		"csrf.key":     "-----BEGIN RSA PRIVATE KEY-----\nno base64\n",
	} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	const password = "hunter2 ä"
	s := accounts.NewStore(confdir.New(dir), slog.New(slog.DiscardHandler))
	g := gate(t, s)
	if _, err := login(t, g, "old@pbs", password); err != nil {
		t.Fatal(err)
	}
	b, err := s.Dir().Load(confdir.Shadow)
	must(t, err)
	var shadow map[string]any
	must(t, json.Unmarshal(b, &shadow))
	if h, _ := shadow["old"].(string); !strings.HasPrefix(h, "$y$j9T$") || !strings.HasPrefix(string(b), "{\n  \"old\": \"") || !strings.HasSuffix(string(b), "\",\n  \"other\": null\n}") {
		t.Errorf("the hash was not renewed in the server's form: %s", b)
	}
	if _, err := login(t, g, "old@pbs", password); err != nil {
		t.Error(err)
	}
	who, err := g.Who(t.Context(), accounts.Credentials{Authorization: "PBSAPIToken=old@pbs!pve:" + url.PathEscape(password)})
	must(t, err)
	p, err := s.Policy()
	must(t, err)
	if r := p.Reach(who, "tank", names.Root, access.CallBackup); r != access.Owned {
		t.Errorf("reach %d", r)
	}
}

func TestKeysAreMadeOnceAndKept(t *testing.T) {
	s, g := open(t)
	got, err := login(t, g, "ann@pbs", "correct horse")
	must(t, err)
	for _, name := range []string{"authkey.key", "authkey.pub", "csrf.key"} {
		info, err := os.Stat(filepath.Join(s.Dir().Path(), name))
		must(t, err)
		if want := map[bool]os.FileMode{true: 0o600, false: 0o640}[name == "authkey.key"]; info.Mode().Perm() != want {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	who, err := gate(t, s).Who(t.Context(), accounts.Credentials{Cookies: cookie(got.Ticket), Changes: true, CSRF: got.CSRF})
	if who.String() != "ann@pbs" || err != nil {
		t.Errorf("after a restart: %s, %v", who, err)
	}
}

func TestDamagedFilesLetNobodyInAndAreNoRefusal(t *testing.T) {
	s, g := open(t)
	key, err := s.AddToken(t.Context(), "", access.Account{ID: id(t, "ann@pbs!nas")})
	must(t, err)
	for _, name := range []string{"user.cfg", "acl.cfg", "acl-holdfast.cfg", "shadow.json", "token.shadow", "tfa.json"} {
		path := filepath.Join(s.Dir().Path(), name)
		old, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		must(t, os.WriteFile(path, []byte("hunter2 {"), 0o600))
		_, byPassword := login(t, g, "ann@pbs", "correct horse")
		_, bySecret := g.Who(t.Context(), accounts.Credentials{Authorization: "PBSAPIToken ann@pbs!nas:" + string(key.Reveal())})
		if byPassword == nil && name != "token.shadow" || bySecret == nil && name != "tfa.json" && name != "shadow.json" {
			t.Errorf("%s is damaged, and somebody gets in: %v, %v", name, byPassword, bySecret)
		}
		for _, err := range []error{byPassword, bySecret} {
			if err != nil && (errors.Is(err, accounts.ErrRefused) || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "hunter2") && strings.Contains(name, "shadow")) {
				t.Errorf("%s is damaged: %v", name, err)
			}
		}
		must(t, os.WriteFile(path, old, 0o600))
	}
	_, err = login(t, g, "ann@pbs", "correct horse")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(s.Dir().Path(), "authkey.key"), []byte("x"), 0o600))
	if _, err := accounts.OpenGate(s, nil); err == nil || !strings.Contains(err.Error(), "authkey.key") {
		t.Errorf("a damaged key: %v", err)
	}
}
