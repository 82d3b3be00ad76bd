package tfa_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-backup/holdfast/internal/access/tfa"
	"github.com/holdfast-backup/holdfast/internal/secret"
)

var now = time.Unix(1717600000, 0)

func parse(t testing.TB, text string) *tfa.Config {
	t.Helper()
	c, err := tfa.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func text(t testing.TB, c *tfa.Config) string {
	t.Helper()
	b, err := c.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// golden has what a server writes: a new authenticator, a used one, one that is
// switched off, recovery codes of which one was used, other kinds, locks.
const golden = `{"users":{` +
	`"ann@pbs":{"totp":[` +
	`{"id":"6f0b8a10-1111-4222-8333-444455556666","description":"phone & co","created":1717500000,"entry":"otpauth://totp/Proxmox%20Backup:ann%40pbs?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&digits=6&algorithm=SHA1&period=30&issuer=Proxmox%20Backup"},` +
	`{"id":"7f0b8a10-1111-4222-8333-444455556666","created":1717500001,"enable":false,"entry":{"totp":"otpauth://totp/ann%40pbs?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&digits=8&algorithm=SHA256&period=60","last-count":57253333}}],` +
	`"recovery":{"secret":"0001020304050607","entries":["7c4742cc266802661b761a7ccdf2d681b76fb222bd29c1b00d22a4cdb9c3534e",null],"created":1717500002}},` +
	`"bob@pam":{"webauthn":[{"id":"x","created":1,"entry":{"cred_id":[1,2]}}],"totp-locked":true,"tfa-locked-until":1717603600}},` +
	`"webauthn":{"rp":"x","origin":"https://x","id":"x"}}`

func TestFileComesBackAsItWas(t *testing.T) {
	if diff := cmp.Diff(golden, text(t, parse(t, golden))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if s := text(t, parse(t, "")); s != "{}" {
		t.Errorf("an empty file became %s", s)
	}
}

func TestFactorsAndLocksAreListed(t *testing.T) {
	c := parse(t, golden)
	want := []tfa.Info{
		{"recovery", "recovery", "", time.Unix(1717500002, 0), true},
		{"totp", "6f0b8a10-1111-4222-8333-444455556666", "phone & co", time.Unix(1717500000, 0), true},
		{"totp", "7f0b8a10-1111-4222-8333-444455556666", "", time.Unix(1717500001, 0), false},
	}
	if diff := cmp.Diff(want, c.List("ann@pbs")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := c.List("eve@pbs"); got != nil {
		t.Error(got)
	}
	if totp, until := c.Locks("bob@pam", now); !totp || until.Unix() != 1717603600 {
		t.Errorf("%v, %v", totp, until)
	}
	if _, until := c.Locks("bob@pam", now.Add(time.Hour)); !until.IsZero() {
		t.Errorf("still locked until %v", until)
	}
}

func TestChallengeSaysWhatAUserCanAnswer(t *testing.T) {
	c := parse(t, golden)
	for user, want := range map[string]string{
		"ann@pbs": `{"totp":true,"recovery":[0]} true true`,
		"bob@pam": `{} true false`, // a key that cannot be checked here does not open the door
		"eve@pbs": `{} false false`,
	} {
		ch, needed := c.Challenge(user)
		if got := fmt.Sprintf("%v %v %v", ch, needed, ch.Answerable()); got != want {
			t.Errorf("%s: %s, want %s", user, got, want)
		}
	}
	if err := c.Remove("ann@pbs", "6f0b8a10-1111-4222-8333-444455556666"); err != nil {
		t.Fatal(err)
	}
	if err := c.Remove("ann@pbs", tfa.Recovery); err != nil {
		t.Fatal(err)
	}
	if _, needed := c.Challenge("ann@pbs"); needed {
		t.Error("a factor that is switched off is asked for")
	}
	off := parse(t, `{"users":{"a@b":{"webauthn":[{"id":"x","created":1,"enable":false,"entry":{}}],"u2f":[]}}}`)
	if _, needed := off.Challenge("a@b"); needed {
		t.Error("a key that is switched off is asked for")
	}
	odd := parse(t, `{"users":{"a@b":{"yubico":{"new":"form"}}}}`)
	if _, needed := odd.Challenge("a@b"); !needed {
		t.Error("a key of an unknown form opens the door")
	}
}

// phone is an authenticator of a user, with a code that fits now.
func phone(t testing.TB, c *tfa.Config, user string) tfa.TOTP {
	t.Helper()
	totp, err := tfa.New("Holdfast", user, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.AddTOTP(user, "id-"+user, "phone", totp, code(totp, now), now); err != nil {
		t.Fatal(err)
	}
	return totp
}

func code(t tfa.TOTP, at time.Time) string { return t.Code(at.Unix() / t.Period) }

func TestOneTimePasswordIsGoodOnce(t *testing.T) {
	c := &tfa.Config{}
	totp := phone(t, c, "ann@pbs")
	var f tfa.Failures
	later := now.Add(time.Minute)
	steps := []struct {
		name, answer string
		at           time.Time
		want         error
	}{
		{"the code of the enrolment", "totp:" + code(totp, now), now, tfa.ErrWrong},
		{"a new code", "totp:" + code(totp, later), later, nil},
		{"the same again", "totp:" + code(totp, later), later, tfa.ErrWrong},
		{"the one before it", "totp:" + code(totp, later.Add(-30*time.Second)), later, tfa.ErrWrong},
		{"the next one, early", "totp:" + code(totp, later.Add(30*time.Second)), later, nil},
		{"one that is too early", "totp:" + code(totp, later.Add(90*time.Second)), later, tfa.ErrWrong},
		{"a code without its kind", code(totp, later.Add(2*time.Minute)), later.Add(2 * time.Minute), tfa.ErrWrong},
		{"another kind", "webauthn:{}", later, tfa.ErrWrong},
		{"nothing", "totp:", later, tfa.ErrWrong},
	}
	for _, s := range steps {
		c = parse(t, text(t, c)) // what was used is remembered by the file
		changed, err := c.Verify("ann@pbs", s.answer, s.at, &f)
		if !errors.Is(err, s.want) || (err == nil) != changed {
			t.Errorf("%s: %v, changed %v", s.name, err, changed)
		}
	}
	if _, err := c.Verify("eve@pbs", "totp:000000", now, &f); !errors.Is(err, tfa.ErrUnknown) {
		t.Errorf("a user without factors: %v", err)
	}
}

func TestRecoveryCodeIsGoodOnceAndUnlocks(t *testing.T) {
	c := &tfa.Config{}
	totp := phone(t, c, "ann@pbs")
	codes, err := c.AddRecovery("ann@pbs", now, rand.Reader)
	if err != nil || len(codes) != 10 || len(codes[0]) != 19 {
		t.Fatal(codes, err)
	}
	for _, s := range codes {
		if strings.Contains(text(t, c), s) {
			t.Fatal("a code is in the file")
		}
	}
	var f tfa.Failures
	at := now.Add(time.Hour)
	for i := 1; i <= 8; i++ {
		changed, err := c.Verify("ann@pbs", "totp:wrong!", at, &f)
		if changed != (i == 8) || !errors.Is(err, tfa.ErrWrong) || errors.Is(err, tfa.ErrLocked) != (i == 8) {
			t.Fatalf("wrong code %d: %v, changed %v", i, err, changed)
		}
	}
	c = parse(t, text(t, c))
	if _, err := c.Verify("ann@pbs", "totp:"+code(totp, at), at, &f); !errors.Is(err, tfa.ErrLocked) {
		t.Fatalf("a good code after too many wrong ones: %v", err)
	}
	if changed, err := c.Verify("ann@pbs", "recovery:"+codes[3], at, &f); err != nil || !changed || f != (tfa.Failures{}) {
		t.Fatalf("a recovery code: %v", err)
	}
	c = parse(t, text(t, c))
	if _, err := c.Verify("ann@pbs", "recovery:"+codes[3], at, &f); !errors.Is(err, tfa.ErrWrong) {
		t.Errorf("a recovery code twice: %v", err)
	}
	if ch, _ := c.Challenge("ann@pbs"); ch.String() != `{"totp":true,"recovery":[0,1,2,4,5,6,7,8,9]}` {
		t.Error(ch.String())
	}
	if _, err := c.Verify("ann@pbs", "totp:"+code(totp, at), at, &f); err != nil {
		t.Errorf("a one-time password afterwards: %v", err)
	}
}

func TestRecoveryCodesAreKeptAsTheServerKeepsThem(t *testing.T) {
	c := parse(t, golden) // the hash is by openssl
	if _, err := c.Verify("ann@pbs", "recovery:0123-4567-89ab-cdef", now, new(tfa.Failures)); err != nil {
		t.Fatal(err)
	}
	if s := text(t, c); !strings.Contains(s, `"entries":[null,null]`) {
		t.Error(s)
	}
}

func TestManyWrongAnswersShutOutForAnHour(t *testing.T) {
	c := &tfa.Config{}
	codes, err := c.AddRecovery("ann@pbs", now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var f tfa.Failures
	for i := 1; i <= 100; i++ {
		if changed, _ := c.Verify("ann@pbs", "recovery:0000-0000-0000-0000", now, &f); changed != (i == 100) {
			t.Fatalf("wrong answer %d: changed %v", i, changed)
		}
	}
	c = parse(t, text(t, c))
	if _, err := c.Verify("ann@pbs", "recovery:"+codes[0], now.Add(time.Hour-time.Second), &f); !errors.Is(err, tfa.ErrLocked) {
		t.Errorf("within the hour: %v", err)
	}
	if _, err := c.Verify("ann@pbs", "recovery:"+codes[0], now.Add(time.Hour), &f); err != nil {
		t.Errorf("after the hour: %v", err)
	}
	locked := parse(t, golden)
	if err := locked.Unlock("bob@pam"); err != nil {
		t.Fatal(err)
	}
	if totp, until := locked.Locks("bob@pam", now); totp || !until.IsZero() {
		t.Error("still locked")
	}
	if err := locked.Unlock("eve@pbs"); !errors.Is(err, tfa.ErrUnknown) {
		t.Error(err)
	}
}

func TestFactorsAreChangedAndRemoved(t *testing.T) {
	c := &tfa.Config{}
	totp := phone(t, c, "ann@pbs")
	if err := c.Change("ann@pbs", "id-ann@pbs", "old phone", false); err != nil {
		t.Fatal(err)
	}
	if l := c.List("ann@pbs"); l[0].Description != "old phone" || l[0].Enabled {
		t.Errorf("%+v", l)
	}
	at := now.Add(time.Minute)
	if _, err := c.Verify("ann@pbs", "totp:"+code(totp, at), at, new(tfa.Failures)); !errors.Is(err, tfa.ErrWrong) {
		t.Errorf("an authenticator that is switched off: %v", err)
	}
	if err := c.Change("ann@pbs", "id-ann@pbs", "", true); err != nil || !c.List("ann@pbs")[0].Enabled {
		t.Error(err)
	}
	for _, err := range []error{c.Change("ann@pbs", "x", "", true), c.Change("eve@pbs", "x", "", true), c.Remove("ann@pbs", "recovery"), c.Remove("eve@pbs", "x")} {
		if !errors.Is(err, tfa.ErrUnknown) {
			t.Error(err)
		}
	}
	if err := c.Remove("ann@pbs", "id-ann@pbs"); err != nil || text(t, c) != "{}" {
		t.Errorf("%v, %s", err, text(t, c))
	}
	phone(t, c, "ann@pbs")
	c.RemoveUser("ann@pbs")
	if text(t, c) != "{}" {
		t.Error(text(t, c))
	}
}

func TestEnrolmentRefuses(t *testing.T) {
	good, err := tfa.New("x", "y", rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*tfa.TOTP){
		"a short secret":    func(p *tfa.TOTP) { p.Secret = secret.New([]byte("123456789")) },
		"few digits":        func(p *tfa.TOTP) { p.Digits = 5 },
		"a long period":     func(p *tfa.TOTP) { p.Period = 3600 },
		"another algorithm": func(p *tfa.TOTP) { p.Algorithm = "MD5" },
	} {
		p := good
		spoil(&p)
		if err := new(tfa.Config).AddTOTP("a@b", "id", "", p, "", now); !errors.Is(err, tfa.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := new(tfa.Config).AddTOTP("a@b", "id", "", good, code(good, now.Add(time.Hour)), now); !errors.Is(err, tfa.ErrWrong) {
		t.Errorf("a wrong code: %v", err)
	}
}

func TestParseRefuses(t *testing.T) {
	const totp = `otpauth://totp/a?secret=HUNTERHUNTERHUNT`
	for name, s := range map[string]string{
		"no JSON":              `{"users":`,
		"another type":         `{"users":[]}`,
		"an unknown field":     `{"users":{"a@b":{"locked-forever":true}}}`,
		"a user without value": `{"users":{"a@b":null}}`,
		"no entry":             `{"users":{"a@b":{"totp":[{"id":"x","created":1}]}}}`,
		"an empty entry":       `{"users":{"a@b":{"totp":[{"id":"x","created":1,"entry":null}]}}}`,
		"no id":                `{"users":{"a@b":{"totp":[{"created":1,"entry":"` + totp + `"}]}}}`,
		"no authenticator":     `{"users":{"a@b":{"totp":[null]}}}`,
		"another URI":          `{"users":{"a@b":{"totp":[{"id":"x","created":1,"entry":"otpauth://hotp/a?secret=HUNTERHUNTERHUNT"}]}}}`,
		"a damaged secret":     `{"users":{"a@b":{"totp":[{"id":"x","created":1,"entry":"otpauth://totp/a?secret=HUNTER1"}]}}}`,
		"no period":            `{"users":{"a@b":{"totp":[{"id":"x","created":1,"entry":"` + totp + `&period=0"}]}}}`,
		"ten digits":           `{"users":{"a@b":{"totp":[{"id":"x","created":1,"entry":"` + totp + `&digits=10"}]}}}`,
		"an algorithm":         `{"users":{"a@b":{"totp":[{"id":"x","created":1,"entry":"` + totp + `&algorithm=md5"}]}}}`,
		"a parameter":          `{"users":{"a@b":{"totp":[{"id":"x","created":1,"entry":"` + totp + `&counter=1"}]}}}`,
	} {
		if _, err := tfa.Parse([]byte(s)); !errors.Is(err, tfa.ErrFormat) || strings.Contains(err.Error(), "HUNTER") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(golden))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := tfa.Parse(b)
		if err != nil {
			if !errors.Is(err, tfa.ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		once, err := c.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		again, err := tfa.Parse(once)
		if err != nil {
			t.Fatalf("%s: %v", once, err)
		}
		twice, err := again.Append(nil)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%s, then %s, %v", once, twice, err)
		}
		for _, user := range []string{"ann@pbs", "bob@pam", "a@b"} {
			_, needed := c.Challenge(user)
			if _, err := c.Verify(user, "totp:000000", now, new(tfa.Failures)); err == nil && !needed {
				t.Fatalf("%s: an answer without a question", user)
			}
		}
	})
}
