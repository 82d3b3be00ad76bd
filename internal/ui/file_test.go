package ui

import (
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestPathsAreShownWithoutLossAndCannotSpeakToTheTerminal(t *testing.T) {
	for in, want := range map[string]string{
		"/a b/ü":          "/a b/ü",
		"a\nb\tc\rd":      `a\nb\tc\rd`,
		`a\nb`:            `a\\nb`,
		"\x1b[31m":        `\033[31m`,
		"caf\xe9":         `caf\351`,
		"\u202e.exe":      `\342\200\256.exe`,
		"\ufffd":          "\ufffd",
		"\x00\x7f\u0085!": `\000\177\302\205!`,
	} {
		if got := Path(in); got != want {
			t.Errorf("Path(%q) = %s, want %s", in, got, want)
		}
	}
}

// unpath is the inverse of Path, for what has no other escapes than its own.
func unpath(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		i++
		if at := strings.IndexByte(`ntr\`, s[i]); at >= 0 {
			b.WriteByte("\n\t\r\\"[at])
			continue
		}
		c, err := strconv.ParseUint(s[i:i+3], 8, 8)
		if err != nil {
			panic(err)
		}
		b.WriteByte(byte(c))
		i += 2
	}
	return b.String()
}

func FuzzPathsComeBack(f *testing.F) {
	f.Add("/usr/bin\n\xff\\041\u202e")
	f.Fuzz(func(t *testing.T, s string) {
		shown := Path(s)
		if back := unpath(shown); back != s {
			t.Errorf("%q is shown as %s, which means %q", s, shown, back)
		}
		if !utf8.ValidString(shown) || strings.ContainsFunc(shown, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q is shown as %q", s, shown)
		}
	})
}

func TestModesLookAsInListingsOfFiles(t *testing.T) {
	for mode, want := range map[uint32]string{
		0o100644: "-rw-r--r--", 0o040755: "drwxr-xr-x", 0o120777: "lrwxrwxrwx", 0o104755: "-rwsr-xr-x", 0o102745: "-rwxr-Sr-x",
		0o041777: "drwxrwxrwt", 0o041776: "drwxrwxrwT", 0o020600: "crw-------", 0o060660: "brw-rw----", 0o010000: "p---------", 0o140111: "s--x--x--x",
		0o100000: "----------", 0: "?---------",
	} {
		if got := Mode(mode); got != want {
			t.Errorf("Mode(%o) = %s, want %s", mode, got, want)
		}
	}
}
