package ticket_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/holdfast-backup/holdfast/internal/access/ticket"
)

var at = time.Unix(0x66F00000, 0)

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func key(t testing.TB, text []byte) *ticket.Keyring {
	t.Helper()
	k, err := ticket.ParsePrivate(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// counted is the bytes 00, 01, 02...
func counted(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

// published is the key of the published example.
func published(t testing.TB) *ticket.Keyring {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(counted(32)))
	if err != nil {
		t.Fatal(err)
	}
	return key(t, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

const publishedTicket = "PBS:root@pam:66F00000::Yskxj5E5Cvdbot4ZtHOUJdmC3n0sFovRh3xGwc5YSTcjxjvN+J1qlTHJDyv4+DJ19qH8FdMq8G9whZZ9BQUmBA"

func TestTicketsAreThoseOfTheServer(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		make       func() (string, error)
	}{
		{"the published example", publishedTicket, func() (string, error) { return published(t).Login("root@pam", at, rand.Reader) }},
		{"RSA, by openssl", "PBS:root@pam:66F00000::" + string(read(t, "rsa.sig")), func() (string, error) { return key(t, read(t, "rsa.key")).Login("root@pam", at, rand.Reader) }},
		{"a second factor, by openssl", `PBS:!tfa!{"totp"%3Atrue}:66F00000::` + string(read(t, "ed25519-partial.sig")), func() (string, error) {
			return key(t, read(t, "ed25519.key")).Partial("root@pam", `{"totp":true}`, at, rand.Reader)
		}},
	} {
		if got, err := tc.make(); got != tc.want || err != nil {
			t.Errorf("%s: %s, %v, want %s", tc.name, got, err, tc.want)
		}
	}
	user, err := published(t).VerifyLogin(publishedTicket, at)
	if user != "root@pam" || err != nil {
		t.Errorf("the published example is of %q, %v", user, err)
	}
	if got := ticket.Info(publishedTicket); got != "PBS:root@pam:66F00000::ticketinfo" {
		t.Error(got)
	}
}

func TestTicketsAreGoodForTwoHours(t *testing.T) {
	k := published(t)
	for age, good := range map[time.Duration]bool{
		-301 * time.Second: false, -300 * time.Second: true, 0: true, 2 * time.Hour: true, 2*time.Hour + time.Second: false,
	} {
		if _, err := k.VerifyLogin(publishedTicket, at.Add(age)); (err == nil) != good || err != nil && !errors.Is(err, ticket.ErrRefused) {
			t.Errorf("at the age of %v: %v", age, err)
		}
	}
	p, err := k.Partial("root@pam", "{}", at, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for age, good := range map[time.Duration]bool{
		-61 * time.Second: false, -60 * time.Second: true, 10 * time.Minute: true, 10*time.Minute + time.Second: false,
	} {
		if _, err := k.VerifyPartial(p, "root@pam", at.Add(age)); (err == nil) != good {
			t.Errorf("a second factor at the age of %v: %v", age, err)
		}
	}
}

func TestTicketOfOneUseIsNoneOfAnother(t *testing.T) {
	k := published(t)
	login, _ := k.Login("ann@pbs", at, rand.Reader)
	part, _ := k.Partial("ann@pbs", `{"totp":true}`, at, rand.Reader)
	term, err := k.Sign(ticket.Terminal, "", ticket.TerminalContext("ann@pbs", "/system", 5900), at, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Verify(term, ticket.Terminal, "ann@pbs/system5900", at, ticket.Usual); err != nil {
		t.Errorf("a terminal's: %v", err)
	}
	if c, err := k.VerifyPartial(part, "ann@pbs", at); c != `{"totp":true}` || err != nil {
		t.Errorf("a second factor's: %q, %v", c, err)
	}
	second := func(s, user string) error { _, err := k.VerifyPartial(s, user, at); return err }
	first := func(s string) error { _, err := k.VerifyLogin(s, at); return err }
	tells := func(s, context string) error {
		_, err := k.Verify(s, ticket.Terminal, context, at, ticket.Usual)
		return err
	}
	for name, err := range map[string]error{
		"the second factor is missing":          first(part),
		"a terminal's for requests":             first(term),
		"a login's as second factor":            second(login, "ann@pbs"),
		"a second factor of another user":       second(part, "bob@pbs"),
		"a login's for a terminal":              tells(login, ""),
		"a terminal's for another port":         tells(term, "ann@pbs/system5901"),
		"of another server":                     func() error { _, err := key(t, read(t, "ed25519.key")).VerifyLogin(login, at); return err }(),
		"of another server with RSA":            func() error { _, err := key(t, read(t, "rsa.key")).VerifyLogin(login, at); return err }(),
		"a user whose name looks like a factor": func() error { s, _ := k.Login("!tfa!@pbs", at, rand.Reader); return first(s) }(),
	} {
		if !errors.Is(err, ticket.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNoChangedTicketIsTaken(t *testing.T) {
	k := published(t)
	for i := range publishedTicket {
		for _, c := range []byte{publishedTicket[i] ^ 1, publishedTicket[i] ^ 0x20, ':', '%', 0} {
			s := publishedTicket[:i] + string(c) + publishedTicket[i+1:]
			if s == publishedTicket {
				continue
			}
			if user, err := k.VerifyLogin(s, at); err == nil {
				t.Errorf("%q is of %s", s, user)
			}
		}
	}
	for _, s := range []string{
		"", ":", "::", ":::", "PBS", "PBS:root@pam", "PBS:root@pam:66F00000", "PBS:root@pam:66F00000::", "PBS:root@pam:66F00000:" + publishedTicket[23:],
		publishedTicket + "=", publishedTicket + "\n", publishedTicket + ":", publishedTicket[:len(publishedTicket)-1],
		strings.Replace(publishedTicket, "66F00000", "+66F00000", 1), strings.Replace(publishedTicket, "66F00000", "-66F00000", 1),
		strings.Replace(publishedTicket, "66F00000", "FFFFFFFFFFFFFFFFF", 1), strings.Replace(publishedTicket, "root", "%FFroot", 1),
	} {
		if _, err := k.VerifyLogin(s, at); !errors.Is(err, ticket.ErrRefused) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestDataWithColonsAndControlCharactersSurvives(t *testing.T) {
	k := published(t)
	for _, data := range []string{"", "a:b", "a\nb\x7f", "größe", "50% of", "100%", "%C3%B6@pbs", "%3A", "%%41"} {
		s, err := k.Sign(ticket.API, data, "context", at, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(s, ":") != 4 || strings.ContainsAny(s, "\n\x7fö") {
			t.Errorf("%q is signed as %q", data, s)
		}
		if got, err := k.Verify(s, ticket.API, "context", at, ticket.Usual); got != data || err != nil {
			t.Errorf("%q became %q, %v", data, got, err)
		}
	}
}

func TestNewKeysAreReadBack(t *testing.T) {
	private, public, err := ticket.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k := key(t, private)
	s, err := k.Login("ann@pbs", at, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if user, err := key(t, private).VerifyLogin(s, at); user != "ann@pbs" || err != nil {
		t.Errorf("%q, %v", user, err)
	}
	if got, err := k.Public(); string(got) != string(public) || err != nil {
		t.Errorf("public key %s, %v", got, err)
	}
	if got, err := key(t, read(t, "ed25519.key")).Public(); string(got) != string(read(t, "ed25519.pub")) || err != nil {
		t.Errorf("public key %s, %v, openssl has another", got, err)
	}
}

func TestOtherKeysAreRefused(t *testing.T) {
	for name, text := range map[string][]byte{
		"nothing": nil, "no PEM": []byte("x"), "a public key": read(t, "ed25519.pub"), "another curve": read(t, "other.key"), "a small key": read(t, "small.key"),
		"half": read(t, "rsa.key")[:300], "damaged": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1, 2, 3}}),
	} {
		if _, err := ticket.ParsePrivate(text); !errors.Is(err, ticket.ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func csrf(t testing.TB, text string) ticket.CSRF {
	t.Helper()
	c, err := ticket.ParseCSRF([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCSRFTokensAreThoseOfTheServer(t *testing.T) {
	const want = "66F00000:jC9K5SozQa3iGLv7FtY3LU/mq/xhCkEsXj6dIAag3ic" // the published example
	c := csrf(t, base64.RawStdEncoding.EncodeToString(counted(32)))
	if got := c.Token("root@pam", at); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for age, good := range map[time.Duration]bool{-301 * time.Second: false, -300 * time.Second: true, 2 * time.Hour: true, 2*time.Hour + time.Second: false} {
		if err := c.Check(want, "root@pam", at.Add(age)); (err == nil) != good {
			t.Errorf("at the age of %v: %v", age, err)
		}
	}
	for _, s := range []string{"", "invalid", want + "=", want[:len(want)-1], strings.Replace(want, "66F0", "66F1", 1), strings.Replace(want, ":j", ":k", 1), "66F00000:"} {
		if err := c.Check(s, "root@pam", at); !errors.Is(err, ticket.ErrRefused) {
			t.Errorf("%q: %v", s, err)
		}
	}
	if err := c.Check(want, "ann@pbs", at); !errors.Is(err, ticket.ErrRefused) {
		t.Errorf("of another user: %v", err)
	}
}

func TestCSRFKeysOfEveryAgeAreRead(t *testing.T) {
	text, err := ticket.GenerateCSRF(rand.Reader)
	if err != nil || len(text) != 86 {
		t.Fatalf("a new key is %q, %v", text, err)
	}
	old := string(read(t, "rsa.key")) // what the first servers had there
	for _, s := range []string{string(text), old} {
		if err := csrf(t, s).Check(csrf(t, s).Token("a@b", at), "a@b", at); err != nil {
			t.Error(err)
		}
	}
	if csrf(t, old).Token("a@b", at) == csrf(t, string(text)).Token("a@b", at) {
		t.Error("the key does not count")
	}
	if _, err := ticket.ParseCSRF(nil); !errors.Is(err, ticket.ErrKey) {
		t.Error(err)
	}
}

func logged(v any) string {
	var b strings.Builder
	slog.New(slog.NewTextHandler(&b, nil)).Info("", "v", v)
	return b.String()
}

func marshalled(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestKeysCannotBePrinted(t *testing.T) {
	k := published(t)
	c := csrf(t, "hunter2")
	for _, s := range []string{fmt.Sprint(k, c), fmt.Sprintf("%+v %#v %x", k, k, k), fmt.Sprintf("%+v %#v %x", c, c, c), logged(k), logged(c), marshalled(t, k), marshalled(t, c)} {
		if strings.Contains(s, "hunter2") || strings.Contains(s, "68756e") || strings.Contains(s, "000102") || !strings.Contains(s, "redacted") {
			t.Error(s)
		}
	}
}

func FuzzVerify(f *testing.F) {
	f.Add(publishedTicket)
	f.Add(`PBS:!tfa!{"totp"%3Atrue}:66F00000::AAAA`)
	f.Add("PBSTERM::66F00000::AAAA")
	k := published(f)
	c := csrf(f, "key")
	f.Fuzz(func(t *testing.T, s string) {
		user, err := k.VerifyLogin(s, at)
		if (err == nil) != (s == publishedTicket) || err == nil && user != "root@pam" || err != nil && !errors.Is(err, ticket.ErrRefused) {
			t.Fatalf("%q is of %q, %v", s, user, err)
		}
		if _, err := k.VerifyPartial(s, "root@pam", at); err == nil {
			t.Fatalf("%q completes a login", s)
		}
		if err := c.Check(s, "root@pam", at); err == nil {
			t.Fatalf("%q is a CSRF token", s)
		}
	})
}

func FuzzData(f *testing.F) {
	f.Add("root@pam")
	f.Add(`!tfa!{"totp":true,"recovery":[0,1]}`)
	k := published(f)
	f.Fuzz(func(t *testing.T, data string) {
		s, err := k.Sign(ticket.API, data, "", at, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		got, err := k.Verify(s, ticket.API, "", at, ticket.Usual)
		if (err == nil) != utf8.ValidString(data) || err == nil && got != data {
			t.Fatalf("%q became %q, %v", data, got, err)
		}
	})
}
