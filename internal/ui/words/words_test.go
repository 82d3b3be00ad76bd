package words_test

import (
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/holdfast-backup/holdfast/internal/exclude"
	"github.com/holdfast-backup/holdfast/internal/ui"
	"github.com/holdfast-backup/holdfast/internal/ui/words"
)

func texts(commands [][]words.Word) (all []string) {
	for _, c := range commands {
		var t []string
		for _, w := range c {
			t = append(t, w.Text)
		}
		all = append(all, strings.Join(t, "|"))
	}
	return all
}

func TestLinesSplitIntoCommandsOfWords(t *testing.T) {
	for line, want := range map[string][]string{
		"":                           nil,
		" ; ;\n;":                    nil,
		"ls -l  /etc\t":              {"ls|-l|/etc"},
		"cd a; ls;pwd":               {"cd|a", "ls", "pwd"},
		"ls\n# all of it\nls a#b #c": {"ls", "ls|a#b"},
		`a\ b "c d" 'e f'`:           {"a b|c d|e f"},
		`a'b'"c"\d`:                  {"abcd"},
		`'' ""`:                      {"|"},
		`\; ';' ";" \#`:              {";|;|;|#"},
		`"\n\t\r\\\"\x\101\377\8"`:   {"\n\t\r\\\"xA\xff8"},
		`'a\nb' a\nb`:                {`a\nb|anb`},
		"ü 日本":                       {"ü|日本"},
		"\xff\\\xfe":                 {"\xff\xfe"},
		"a\r\nb":                     {"a", "b"},
	} {
		got, err := words.Split(line)
		if diff := cmp.Diff(want, texts(got)); err != nil || diff != "" {
			t.Errorf("%q: %v, %s", line, err, diff)
		}
	}
	for _, line := range []string{`'a`, `"a`, `a\`, `"\`, `"a\"`, "ls\n'"} {
		if got, err := words.Split(line); err == nil {
			t.Errorf("%q is %v", line, texts(got))
		} else if _, ok := errors.AsType[*words.SyntaxError](err); !ok {
			t.Errorf("%q: %v", line, err)
		}
	}
}

func TestEscapedBytesStandForThemselvesInPatterns(t *testing.T) {
	for line, want := range map[string]string{
		`*.c`:     `*.c`,
		`\*.c`:    `\*.c`,
		`"*.c"`:   `*.c`,
		`"\*.c"`:  `\*.c`,
		`'\*.c'`:  `\*.c`,
		`a\ b`:    `a\ b`,
		`"\052x"`: `\*x`,
	} {
		got, err := words.Split(line)
		if err != nil || got[0][0].Pattern != want {
			t.Errorf("%q is the pattern %q, %v, want %q", line, got[0][0].Pattern, err, want)
		}
	}
}

func TestLastFindsTheWordThatIsBeingWritten(t *testing.T) {
	for line, want := range map[string]struct {
		before, text string
		start        int
	}{
		"":             {"", "", 0},
		"l":            {"", "l", 0},
		"ls ":          {"ls", "", 3},
		"ls /et":       {"ls", "/et", 3},
		"pwd; ls -l a": {"ls|-l", "a", 11},
		`ls "a b`:      {"ls", "a b", 3},
		`ls 'a b`:      {"ls", "a b", 3},
		`ls a\`:        {"ls", "a", 3},
		`ls a\ b`:      {"ls", "a b", 3},
		`ls "\377`:     {"ls", "\xff", 3},
		"ls #a":        {"ls", "", 5},
		"a;":           {"", "", 2},
	} {
		before, text, start := words.Last(line)
		var got string
		if len(before) > 0 {
			got = texts([][]words.Word{before})[0]
		}
		if got != want.before || text != want.text || start != want.start {
			t.Errorf("%q: %q, %q at %d, want %+v", line, got, text, start, want)
		}
	}
}

func FuzzQuotedTextIsOneWordThatMeansIt(f *testing.F) {
	for _, s := range []string{"", "a b", "\xff\n\\'\"", "*?[a]", "#", "!a", "\u202e\u00a0é", "a;b", "\ufffd", "$`~"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q := words.Quote(s)
		if !utf8.ValidString(q) || strings.ContainsFunc(q, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Fatalf("%q is quoted as %q", s, q)
		}
		got, err := words.Split(q)
		if err != nil || len(got) != 1 || len(got[0]) != 1 || got[0][0].Text != s {
			t.Fatalf("%q is quoted as %s, which is %q, %v", s, q, texts(got), err)
		}
		// The same while it is being written, and as ui shows it.
		if _, text, start := words.Last("ls " + words.QuoteOpen(s)); text != s || start != 3 {
			t.Fatalf("%q is quoted as %s, which ends in %q at %d", s, words.QuoteOpen(s), text, start)
		}
		shown, err := words.Split(`"` + strings.ReplaceAll(ui.Path(s), `"`, `\"`) + `"`)
		if err != nil || len(shown) != 1 || shown[0][0].Text != s {
			t.Fatalf("%q is shown as %s, which is %q, %v", s, ui.Path(s), texts(shown), err)
		}
		if strings.ContainsAny(s, "/\x00") || s == "" || s == "." || s == ".." || len(s) > 1000 {
			return
		}
		p, err := exclude.Parse("/"+got[0][0].Pattern, exclude.Include)
		if err != nil || !p.Match([]byte("/"+s), false) {
			t.Fatalf("%q as a pattern: %q, %v", s, got[0][0].Pattern, err)
		}
	})
}

func FuzzSplitNeverFailsOtherwise(f *testing.F) {
	f.Add("ls \"\\1\" 'a'; \\")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := words.Split(s)
		if _, ok := errors.AsType[*words.SyntaxError](err); err != nil && !ok {
			t.Fatal(err)
		}
		for _, c := range got {
			if len(c) == 0 {
				t.Fatalf("%q has an empty command", s)
			}
		}
		if _, _, start := words.Last(s); start < 0 || start > len(s) {
			t.Fatalf("%q: a word at %d", s, start)
		}
	})
}
