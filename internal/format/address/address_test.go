package address

import (
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/names"
)

func TestAddressFillsInWhatIsLeftOut(t *testing.T) {
	root := names.AuthID{User: "root", Realm: "pam"}
	for s, want := range map[string]Address{
		"tank":                             {root, "localhost", 8007, "tank"},
		"pbs:tank":                         {root, "pbs", 8007, "tank"},
		"pbs.example.org:8008:tank":        {root, "pbs.example.org", 8008, "tank"},
		"joe@pbs@pbs:tank":                 {names.AuthID{User: "joe", Realm: "pbs"}, "pbs", 8007, "tank"},
		"joe@pbs!ci@10.0.0.1:1:tank":       {names.AuthID{User: "joe", Realm: "pbs", Token: "ci"}, "10.0.0.1", 1, "tank"},
		"joe@corp@ad@pbs:tank":             {names.AuthID{User: "joe@corp", Realm: "ad"}, "pbs", 8007, "tank"},
		"[::1]:tank":                       {root, "::1", 8007, "tank"},
		"joe@pbs@[2001:db8::1]:65535:tank": {names.AuthID{User: "joe", Realm: "pbs"}, "2001:db8::1", 65535, "tank"},
	} {
		got, err := Parse(s)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", s, got, err, want)
		}
		if again, err := Parse(got.String()); err != nil || again != got {
			t.Errorf("%q is written as %q, which reads as %+v, %v", s, got, again, err)
		}
	}
}

func TestAddressRefuses(t *testing.T) {
	for _, s := range []string{
		"", ":", "ab", "tank:", ":tank", "pbs:ta/nk", "pbs:.tank", "pbs:0:tank", "pbs:65536:tank", "pbs:08007:tank", "pbs:x:tank",
		"2001:db8::1:tank", "[::1:tank", "[10.0.0.1]:tank", "[::1]8007:tank", "[]:tank", "joe@pbs:tank@x", "@pbs:tank", "joe@@pbs:tank",
		"joe@pbs@:tank", "a b:tank", "-pbs:tank", "pbs..org:tank", "jo/e@pbs@host:tank", strings.Repeat("a", 64) + ":tank",
	} {
		if got, err := Parse(s); !errors.Is(err, ErrFormat) {
			t.Errorf("%q: %+v, %v, want ErrFormat", s, got, err)
		}
	}
}

func TestServerIsWhatDiallingTakes(t *testing.T) {
	for s, want := range map[string]string{"pbs:tank": "pbs:8007", "[::1]:9:tank": "[::1]:9"} {
		if a, err := Parse(s); err != nil || a.Server() != want {
			t.Errorf("%q: %q, %v, want %q", s, a.Server(), err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"tank", "joe@pbs!ci@10.0.0.1:1:tank", "joe@corp@ad@pbs:tank", "[::1%eth0]:9:tank", "a@b@c@d:e:fgh"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := Parse(s)
		if err != nil {
			return
		}
		if again, err := Parse(a.String()); err != nil || again != a {
			t.Fatalf("%q reads as %+v, which is written as %q and reads as %+v, %v", s, a, a, again, err)
		}
	})
}

func TestFingerprintIsReadInEveryUsualForm(t *testing.T) {
	want := FingerprintOf([]byte("hello\n"))
	const text = "58:91:b5:b5:22:d5:df:08:6d:0f:f0:b1:10:fb:d9:d2:1b:b4:fc:71:63:af:34:d0:82:86:a2:e8:46:f6:be:03"
	if want.String() != text {
		t.Fatalf("written as %s, want %s", want, text)
	}
	for _, s := range []string{text, strings.ToUpper(text), strings.ReplaceAll(text, ":", "")} {
		if got, err := ParseFingerprint(s); err != nil || got != want {
			t.Errorf("%q: %s, %v", s, got, err)
		}
	}
	for _, s := range []string{"", text[:92], text + ":", "x" + text[1:], ":" + text[:2] + text[3:], strings.ReplaceAll(text, ":", "::"), strings.Replace(text, ":", "", 1)} {
		if got, err := ParseFingerprint(s); !errors.Is(err, ErrFormat) {
			t.Errorf("%q: %s, %v, want ErrFormat", s, got, err)
		}
	}
}
