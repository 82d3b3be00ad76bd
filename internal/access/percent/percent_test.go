package percent_test

import (
	"testing"

	"github.com/holdfast-backup/holdfast/internal/access/percent"
)

func TestOnlyWhatMustBeIsWrittenWithDigits(t *testing.T) {
	must := func(c byte) bool { return c == '%' || c == ':' || c >= 0x80 }
	if got := percent.Encode("a:b%ö+", must); got != "a%3Ab%25%C3%B6+" {
		t.Error(got)
	}
}

func TestWhatIsNoDigitsStays(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "a+b": "a+b", "%41%6a%6A": "Ajj", "%": "%", "%4": "%4", "%4g": "%4g", "%%41": "%A", "%+1": "%+1", "%-1x": "%-1x", "%2541": "%41",
	} {
		if got := percent.Decode(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("a%20b%zz")
	f.Fuzz(func(t *testing.T, s string) {
		if got := percent.Decode(percent.Encode(s, func(c byte) bool { return c == '%' || c < 'a' })); got != s {
			t.Fatalf("%q became %q", s, got)
		}
		_ = percent.Decode(s)
	})
}
