package unitname_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/unitname"
)

func TestEscapeFollowsSystemd(t *testing.T) {
	for _, tc := range []struct{ in, escaped, path string }{
		{"", "", "-"},
		{"/", "-", "-"},
		{"vm/100", "vm-100", "vm-100"},
		{"//vm/100", "--vm-100", "vm-100"},
		{".x.y", `\x2ex.y`, `\x2ex.y`},
		{"a-b:c d\\é", `a\x2db\x3ac\x20d\x5c\xc3\xa9`, `a\x2db\x3ac\x20d\x5c\xc3\xa9`},
	} {
		if got := unitname.Escape(tc.in); got != tc.escaped {
			t.Errorf("Escape(%q) = %q, want %q", tc.in, got, tc.escaped)
		}
		if got := unitname.EscapePath(tc.in); got != tc.path {
			t.Errorf("EscapePath(%q) = %q, want %q", tc.in, got, tc.path)
		}
	}
}

func TestUnescapeRefusesWhatEscapeCannotMake(t *testing.T) {
	for _, s := range []string{`\`, `\x`, `\x4`, `\xg0`, `\y41`, "a/b", "a:b", "a b", "é"} {
		if got, err := unitname.Unescape(s); !errors.Is(err, unitname.ErrFormat) {
			t.Errorf("Unescape(%q) = %q, %v, want ErrFormat", s, got, err)
		}
	}
}

func FuzzEscape(f *testing.F) {
	f.Add("vm/100/2022-05-02T08:11:33Z")
	f.Add(".hidden")
	f.Fuzz(func(t *testing.T, s string) {
		e := unitname.Escape(s)
		if strings.ContainsAny(e, "/: \n\x00") {
			t.Fatalf("Escape(%q) = %q is not a plain file name", s, e)
		}
		if back, err := unitname.Unescape(e); err != nil || back != s {
			t.Fatalf("Unescape(%q) = %q, %v, want %q", e, back, err, s)
		}
		if back, err := unitname.Unescape(s); err == nil {
			if again, err := unitname.Unescape(unitname.Escape(back)); err != nil || again != back {
				t.Fatalf("%q does not survive a round trip: %q, %v", back, again, err)
			}
		}
	})
}
