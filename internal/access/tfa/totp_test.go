package tfa_test

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-backup/holdfast/internal/access/tfa"
	"github.com/holdfast-backup/holdfast/internal/secret"
)

func TestCodesAreThoseOfTheStandard(t *testing.T) { // RFC 6238, appendix B
	for _, v := range []struct {
		at                   int64
		sha1, sha256, sha512 string
	}{
		{59, "94287082", "46119246", "90693936"},
		{1111111109, "07081804", "68084774", "25091201"},
		{1111111111, "14050471", "67062674", "99943326"},
		{1234567890, "89005924", "91819424", "93441116"},
		{2000000000, "69279037", "90698825", "38618901"},
		{20000000000, "65353130", "77737706", "47863826"},
	} {
		for alg, want := range map[string]struct {
			code string
			key  int
		}{"SHA1": {v.sha1, 20}, "SHA256": {v.sha256, 32}, "SHA512": {v.sha512, 64}} {
			key := strings.Repeat("1234567890", 7)[:want.key]
			totp := tfa.TOTP{Secret: secret.New([]byte(key)), Algorithm: alg, Digits: 8, Period: 30}
			if got := totp.Code(v.at / 30); got != want.code {
				t.Errorf("%s at %d: %s, want %s", alg, v.at, got, want.code)
			}
			if n, ok := totp.Check(want.code, time.Unix(v.at, 0)); !ok || n != v.at/30 {
				t.Errorf("%s at %d: counter %d, %v", alg, v.at, n, ok)
			}
		}
	}
}

func TestCodesAreThoseOfAnotherProgram(t *testing.T) { // published with the source, made by oathtool
	key := func(s string) secret.Secret {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return secret.New(b)
	}
	one := tfa.TOTP{Secret: key("87259aa6550f059bca8c"), Algorithm: "SHA1", Digits: 6, Period: 30}
	eight, two := one, one
	eight.Digits = 8
	two.Secret, two.Digits = key("a60b1b20679b1a64e21a"), 7
	for want, got := range map[string]string{
		"337037": one.Code(1), "296746": one.Code(2), "251167": one.Code(3), "11899249": eight.Code(4), "7757717": two.Code(1596554063 / 30),
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestCodeOfTheNeighbourPeriodIsTaken(t *testing.T) {
	totp, err := tfa.ParseTOTP("otpauth://totp/a?secret=GEZDGNBVGY3TQOJQ")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(3000000000, 0)
	for off, good := range map[time.Duration]bool{-60: false, -30: true, 0: true, 29: true, 30: true, 60: false} {
		if _, ok := totp.Check(totp.Code(at.Add(off*time.Second).Unix()/30), at); ok != good {
			t.Errorf("%d seconds off: %v", off, ok)
		}
	}
	if _, ok := totp.Check(totp.Code(0), time.Unix(0, 0)); !ok {
		t.Error("the first period")
	}
}

func TestURIsOfAuthenticators(t *testing.T) {
	for uri, want := range map[string]string{
		"otpauth://totp/a?secret=GEZDGNBV":                                   "otpauth://totp/a?secret=GEZDGNBV&digits=6&algorithm=SHA1&period=30",
		"otpauth://totp/user%40host?secret=aa&issuer=I&algorithm=sha256":     "otpauth://totp/I:user%40host?secret=AA&digits=6&algorithm=SHA256&period=30&issuer=I",
		"otpauth://totp/An%20Issuer:a%3Ab?secret=GEZDGNBV====&digits=8":      "otpauth://totp/An%20Issuer:a%3Ab?secret=GEZDGNBV&digits=8&algorithm=SHA1&period=30&issuer=An%20Issuer",
		"otpauth://totp/a?secret=GEZDGNBV&period=60&issuer=B%26C&digits=007": "otpauth://totp/B%26C:a?secret=GEZDGNBV&digits=7&algorithm=SHA1&period=60&issuer=B%26C",
	} {
		totp, err := tfa.ParseTOTP(uri)
		if err != nil {
			t.Errorf("%s: %v", uri, err)
			continue
		}
		if diff := cmp.Diff(want, totp.URI()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", uri, diff)
		}
		if s := fmt.Sprintf("%v %+v", totp, totp); strings.Contains(s, "GEZ") || strings.Contains(s, "1234") {
			t.Errorf("the secret is printed: %s", s)
		}
	}
}

func FuzzTOTP(f *testing.F) {
	f.Add("otpauth://totp/An%20Issuer:a%3Ab?secret=GEZDGNBV&digits=8&algorithm=sha512&period=1")
	f.Fuzz(func(t *testing.T, s string) {
		totp, err := tfa.ParseTOTP(s)
		if err != nil {
			return
		}
		again, err := tfa.ParseTOTP(totp.URI())
		if err != nil || again.URI() != totp.URI() || !again.Secret.Equal(totp.Secret) {
			t.Fatalf("%s, then %s, %v", totp.URI(), again.URI(), err)
		}
		if c := totp.Code(12345); len(c) != totp.Digits {
			t.Fatal(c)
		}
	})
}
