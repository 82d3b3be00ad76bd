package passwd_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/access/passwd"
	"github.com/holdfast-backup/holdfast/internal/secret"
)

const password = "hunter2 ä"

// vectors are hashes of the password by libxcrypt 4.4.33, with salts from the
// bytes 00, 01, 02...
var vectors = map[string]string{
	"yescrypt as PBS makes it": "$y$j9T$.2U.1EE/4Q.07ck0AoU1D.F2GA/3JMl3MYV4PkF5Sw/$QiNk6q.1I58hvE6TSs18AmUlqhR7i1lyhYb3QYWc7l6",
	"yescrypt of lower cost":   "$y$j75$.2U.1EE/4Q.07ck0AoU1D.F2GA/3JMl3MYV4PkF5Sw/$5odM6q1zabdrWbmAwqMRgtgnZcVNETVASd9.xzhfNi1",
	"SHA-512":                  "$6$.2U.1EE/4Q.07ck0$CE6xcEWeIo/joDaiWDiK7rTOOhv6oYvX/Npb7HYo7CzCLyTACe9wfdHPM/FJZ/6halwuCJb4f4HnBFgNdLF4g0",
	"SHA-512 with rounds":      "$6$rounds=10000$.2U.1EE/4Q.07ck0$iccaYLgVLyH5.byA9.DdlTCPpHyK8.2/N8/6UnUDwnUT5JXaL0pqcry1joRni9DAi9Bh27lMhovUGHJQJF8PJ0",
	"SHA-256":                  "$5$.2U.1EE/4Q.07ck0$6thD3v2bOLaS4NIjWGfpQAW0kSe9WmLfWtVH9.lYMS2",
	"SHA-256 with rounds":      "$5$rounds=535000$.2U.1EE/4Q.07ck0$xO3M/wlydHpFlsT9gjv.Zq2XUt9oUpDK3zdMq/1UHW5",
	"bcrypt, b":                "$2b$05$..CA.uOD/eaGAOmJB.yMBuUSLFNRl4f0KNpwDQPL.sPkTivQtpj5a",
	"bcrypt, y":                "$2y$05$..CA.uOD/eaGAOmJB.yMBuUSLFNRl4f0KNpwDQPL.sPkTivQtpj5a",
	"bcrypt, a":                "$2a$05$..CA.uOD/eaGAOmJB.yMBuUSLFNRl4f0KNpwDQPL.sPkTivQtpj5a",
}

func pw(s string) secret.Secret { return secret.New([]byte(s)) }

func TestHashesOfTheSystemAreChecked(t *testing.T) {
	for name, h := range vectors {
		t.Run(name, func(t *testing.T) {
			if err := passwd.Verify(pw(password), h); err != nil {
				t.Errorf("the password: %v", err)
			}
			if err := passwd.Verify(pw(password+"!"), h); !errors.Is(err, passwd.ErrMismatch) {
				t.Errorf("another password: %v", err)
			}
			for _, i := range []int{len(h) - 5, len(h) / 3} {
				spoilt := []byte(h)
				spoilt[i] ^= 1
				if err := passwd.Verify(pw(password), string(spoilt)); err == nil {
					t.Errorf("%s was taken", spoilt)
				}
			}
			if passwd.Outdated(h) != !strings.HasPrefix(h, "$y$j9T") {
				t.Errorf("outdated: %v", passwd.Outdated(h))
			}
		})
	}
}

func TestNewHashesHaveTheServersFormAndAreTheSystems(t *testing.T) {
	salt := make([]byte, 32)
	for i := range salt {
		salt[i] = byte(i)
	}
	if h, err := passwd.Hash(pw(password), bytes.NewReader(salt)); h != vectors["yescrypt as PBS makes it"] || err != nil {
		t.Errorf("%s, %v", h, err)
	}
	h, err := passwd.Hash(pw("other"), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := passwd.Verify(pw("other"), h); err != nil || passwd.Outdated(h) {
		t.Errorf("%s: %v", h, err)
	}
	perl, err := exec.LookPath("perl")
	if err != nil {
		t.Skip("perl is not here, so the system's crypt is not asked")
	}
	out, err := exec.Command(perl, "-e", `print crypt("other", $ARGV[0])`, h).Output()
	if err != nil || string(out) != h {
		t.Errorf("the system's crypt has %s, %v; want %s", out, err, h)
	}
}

func TestWhatIsNoHashFitsNoPassword(t *testing.T) {
	for _, h := range []string{
		"", "!", "*", "x", password, "$", "$y$", "$y$j9T$", "$y$j9T", "$y$k9T$.2U.1EE/$x", "$y$jzT$.2U.1EE/$x", "$y$j9T$ü$x", "$6$", "$6$$$$$", "$5$salt",
		"$6$rounds=999$salt$x", "$6$rounds=99999999$salt$x", "$6$rounds=x$salt$x", "$5$0123456789abcdefg$x", "$2b$", "$2b$05$short", "$2b$31$..CA.uOD/eaGAOmJB.yMBuUSLFNRl4f0KNpwDQPL.sPkTivQtpj5a",
		"$1$.2U.1EE/$IFLlvl6H234KSzLirks9a1", "$argon2id$v=19$", "..CA.uOD/eaGA",
	} {
		for _, p := range []string{password, h, "x"} {
			if err := passwd.Verify(pw(p), h); !errors.Is(err, passwd.ErrFormat) && !errors.Is(err, passwd.ErrMismatch) {
				t.Errorf("%q with %q: %v", h, p, err)
			}
		}
	}
}

func TestImpossiblePasswordsAreRefused(t *testing.T) {
	for name, p := range map[string]string{"empty": "", "a zero byte": "a\x00b", "too long": strings.Repeat("x", 512)} {
		if _, err := passwd.Hash(pw(p), rand.Reader); !errors.Is(err, passwd.ErrPassword) {
			t.Errorf("%s: %v", name, err)
		}
		if err := passwd.Verify(pw(p), vectors["SHA-512"]); !errors.Is(err, passwd.ErrMismatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	passwd.Waste(pw(password)) // does not panic
}

func FuzzVerify(f *testing.F) {
	for _, h := range vectors {
		if !strings.HasPrefix(h, "$y$j9T") && !strings.Contains(h, "535000") { // as slow as they are meant to be
			f.Add(password, h)
		}
	}
	f.Fuzz(func(t *testing.T, p, h string) {
		if strings.HasPrefix(h, "$y$j") && !strings.HasPrefix(h, "$y$j75") || strings.Contains(h, "rounds=") || strings.HasPrefix(h, "$2") && !strings.Contains(h, "$05$") {
			return // slow on purpose
		}
		err := passwd.Verify(pw(p), h)
		if err != nil && !errors.Is(err, passwd.ErrMismatch) && !errors.Is(err, passwd.ErrFormat) {
			t.Fatal(err)
		}
		if err == nil && p != password {
			t.Fatalf("%q fits %q", h, p)
		}
	})
}

func BenchmarkHash(b *testing.B) {
	for b.Loop() {
		if _, err := passwd.Hash(pw(password), rand.Reader); err != nil {
			b.Fatal(err)
		}
	}
}
