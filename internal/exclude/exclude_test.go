package exclude_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast/internal/exclude"
)

func must(t testing.TB, text string) exclude.Pattern {
	t.Helper()
	p, err := exclude.Parse(text, exclude.Exclude)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestGoldenDecisions(t *testing.T) {
	b, err := os.ReadFile("testdata/exclude-patterns.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Cases []struct {
			Patterns []struct {
				Text     string
				Anchored bool
				Parse    string
			}
			Paths []struct{ Path, Mode, Result string }
		}
	}
	if err := json.Unmarshal(b, &file); err != nil || len(file.Cases) < 20 {
		t.Fatalf("%d cases, %v", len(file.Cases), err)
	}
	for _, c := range file.Cases {
		var patterns []exclude.Pattern
		for _, v := range c.Patterns {
			p, err := exclude.Parse(v.Text, exclude.Exclude)
			if _, bad := errors.AsType[*exclude.SyntaxError](err); bad == (v.Parse == "ok") || err != nil && !bad {
				t.Errorf("%q: %v, want %s", v.Text, err, v.Parse)
			}
			if err != nil {
				continue
			}
			if v.Anchored {
				p = p.Anchor()
			}
			patterns = append(patterns, p)
		}
		for _, v := range c.Paths {
			mode, err := strconv.ParseUint(v.Mode, 8, 32)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range lists(patterns) {
				if got := l.Match([]byte(v.Path), mode&0o170000 == 0o040000).String(); got != v.Result {
					t.Errorf("%v: %q, mode %s: %s, want %s", patterns, v.Path, v.Mode, got, v.Result)
				}
			}
		}
	}
}

// lists puts patterns in lists of all forms that must decide alike: short, long
// enough for an index, and one behind the other.
func lists(patterns []exclude.Pattern) []*exclude.List {
	var padding []exclude.Pattern
	for i := range 10 {
		p, err := exclude.Parse(fmt.Sprintf("/never/%d", i), exclude.Include)
		if err != nil {
			panic(err)
		}
		padding = append(padding, p)
	}
	var chain *exclude.List
	for i := range patterns {
		chain = chain.With(patterns[i : i+1])
	}
	return []*exclude.List{
		exclude.NewList(patterns), exclude.NewList(slices.Concat(padding, patterns)),
		exclude.NewList(slices.Concat(patterns, padding)), chain,
	}
}

// Every line is a rule of the package comment.
func TestRulesOfGlobs(t *testing.T) {
	for _, tc := range []struct{ pattern, yes, no string }{
		{"foo", "/foo /a/foo /a/b/foo", "/foox /xfoo /foo/a"},
		{"/foo", "/foo", "/a/foo"},
		{"a/b", "/a/b /x/a/b", "/a/b/c /xa/b"},
		{"?", "/a /x/b", "/ab"},
		{"a?b", "/axb", "/a/b /ab"},
		{"*", "/a /a/b", ""},
		{"a*b", "/ab /axxb /x/axb", "/a/b /axbx"},
		{"/*", "/a /b", "/a/b"},
		{"/*/x", "/a/x", "/x /a/b/x"},
		{"a/**/b", "/a/b /a/x/b /a/x/y/b", "/ab /a/xb"},
		{"**/x", "/x /a/x /a/b/x", "/ax"},
		{"/**/x", "/x /a/x", "/ax"},
		{"/a/**", "/a/b /a/b/c", "/a /b/a/c"},
		{"**", "/a /a/b", ""},
		{"***", "/a /a/b", ""},
		{"a/***/b", "/a/b /a/x/y/b", "/ab"},
		{"x**y", "/xy /xay", "/x/y"},
		{"a**/b", "/ab/b /a/b", "/a/x/b"},
		{"/a/**/b/**/c", "/a/b/c /a/x/b/y/z/c /a/b/b/c /a/x/b/b/c", "/a/c /a/b /a/b/cc /a/xb/c"},
		{"**/**/x", "/x /a/x /a/b/x", "/xx"},
		{"/**/a*/**/z", "/a/z /ab/z /x/ab/y/z", "/z /ba/z"},
		{`\*`, "/*", "/a"},
		{`a\?`, "/a?", "/ab"},
		{`\a\b`, "/ab", `/\a\b`},
		{"[abc]", "/a /b", "/d /ab"},
		{"[^abc]", "/d", "/a"},
		{"[!a]", "/a /!", "/b"},
		{"[a-c]", "/a /b /c", "/d /-"},
		{"[c-a]", "/a /b /c", "/d"},
		{"[-a]", "/- /a", "/b"},
		{"[^-a]", "/b", "/- /a"},
		{"[a-c-e]", "/a /b /c /- /e", "/d"},
		{`[\]a]`, "/] /a", "/b"},
		{`[a-\]]`, "/] /a /^", "/b"},
		{`[\a-c]`, "/a /b", `/\`},
		{"[]a]", "", "/a /]a /a]"},
		{"[^]a", "/xa /]a /a", "/b /xb"},
		{"[[]", "/[", "/a"},
		{"[[:digit:]x]", "/1 /x", "/a /: /d"},
		{"[[:alpha:][:digit:]]", "/1 /x /Z", "/_"},
		{"[[:alpha:]-c]", "/a /- /c /Q", "/1"},
		{"[[:punct:]]", "/! /~ /: /@ /[ /_", "/a /0"},
		{"[[:xdigit:]][[:upper:]][[:lower:]]", "/fXx /0Ab", "/gXx /fxx"},
		{"[[:cntrl:]][[:blank:]]", "/\x01\t /\x7f\t", "/a\t /\x01\v"},
		{"[[:print:]]", "/a /\x7f", "/\x80 /\x1f"},
		{"[[:graph:]]", "/a", "/\x7f"},
		{"[[:space:]]", "/\n /\f", "/\v /a"},
		{"a[/]b", "/a/b", "/ab"},
		{"\xff*", "/\xff /\xffa", "/a"},
		{"é?", "/é1", "/é"},
		{"*[^a]*b", "/xb /x/yb /b", "/x/ab"}, // the last would match if a star gave way across a slash
	} {
		p := must(t, tc.pattern)
		for want, paths := range map[bool]string{true: tc.yes, false: tc.no} {
			for path := range strings.SplitSeq(paths, " ") {
				if path != "" && p.Match([]byte(path), false) != want {
					t.Errorf("%q matches %q: %t, want %t", tc.pattern, path, !want, want)
				}
			}
		}
	}
}

func TestTextsAreParsed(t *testing.T) {
	for _, tc := range []struct {
		text     string
		by       exclude.Action
		action   exclude.Action
		dirs     bool
		as, norm string
	}{
		{"a", exclude.Exclude, exclude.Exclude, false, "a", "a"},
		{"!a", exclude.Exclude, exclude.Include, false, "!a", "a"},
		{"!a", exclude.Include, exclude.Exclude, false, "a", "a"},
		{"a/", exclude.Exclude, exclude.Exclude, true, "a/", "a"},
		{"a///", exclude.Exclude, exclude.Exclude, true, "a/", "a"},
		{"!a/b/", exclude.Exclude, exclude.Include, true, "!a/b/", "a/b"},
		{"", exclude.Exclude, exclude.Exclude, true, "//", "/"},
		{"/", exclude.Exclude, exclude.Exclude, true, "//", "/"},
		{"!", exclude.Exclude, exclude.Include, true, "!//", "/"},
		{"./a/./b//c/../d", exclude.Exclude, exclude.Exclude, false, "a/b/d", "a/b/d"},
		{"/../a", exclude.Exclude, exclude.Exclude, false, "/a", "/a"},
		{"../a", exclude.Exclude, exclude.Exclude, false, "a", "a"},
		{"!!a", exclude.Exclude, exclude.Include, false, "!!a", "!a"},
		{"!!a", exclude.Include, exclude.Exclude, false, `\!a`, "!a"},
	} {
		p, err := exclude.Parse(tc.text, tc.by)
		if err != nil || p.Action() != tc.action || p.DirsOnly() != tc.dirs || p.String() != tc.as {
			t.Errorf("%q by %s: %s %s, directories %t, %v", tc.text, tc.by, p.Action(), p, p.DirsOnly(), err)
		}
	}
	if got := must(t, "/a/").Anchor(); got.String() != "/a" || !got.Anchored() {
		t.Errorf("anchored: %s", got)
	}
}

func TestBadPatternsAreRefused(t *testing.T) {
	for _, text := range []string{
		"[", "[a", "[a-]", "[^", "[a-", `[a-\`, `[\`, `a\`, `a\/`, "[[:foo:]]", "[[:", "[[:digit]]", "a\x00b",
		strings.Repeat("a", exclude.MaxText+1),
	} {
		_, err := exclude.Parse(text, exclude.Exclude)
		if bad, ok := errors.AsType[*exclude.SyntaxError](err); !ok || bad.Text != text || bad.Reason == "" {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

func TestFilesAreParsed(t *testing.T) {
	content := "# comment\n\n  *.tmp \t\r\n/cache\n!/cache/keep\n!x.tmp\n/[\nlogs/\n #c\n!!y\n/../z"
	patterns, bad := exclude.ParseFile("srv/a*[b]", []byte(content))
	if want := "*.tmp\n" + `/srv/a\*\[b]/cache` + "\n" + `!/srv/a\*\[b]/cache/keep` + "\n!x.tmp\nlogs/\ny\n/srv/z\n"; exclude.Text(patterns) != want {
		t.Errorf("got\n%s\nwant\n%s", exclude.Text(patterns), want)
	}
	if len(bad) != 1 || bad[0].Line != 7 {
		t.Errorf("bad: %v", bad)
	}
	l := exclude.NewList(patterns)
	for path, want := range map[string]exclude.Action{
		"/srv/a*[b]/cache":      exclude.Exclude,
		"/srv/a*[b]/x/cache":    exclude.None,
		"/srv/a*[b]/cache/keep": exclude.Include,
		"/srv/axb/cache":        exclude.None,
		"/cache":                exclude.None,
		"/srv/a*[b]/q/x.tmp":    exclude.Include,
		"/srv/a*[b]/q/y.tmp":    exclude.Exclude,
		"/srv/a*[b]/y":          exclude.Exclude,
	} {
		if got := l.Match([]byte(path), false); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	root, _ := exclude.ParseFile("", []byte("/a"))
	if got := exclude.Text(root); got != "/a\n" {
		t.Errorf("at the root: %q", got)
	}
}

func TestListsGrowAndEnd(t *testing.T) {
	above := exclude.NewList([]exclude.Pattern{must(t, "*.o")})
	below := above.With([]exclude.Pattern{must(t, "!keep.o")})
	for _, tc := range []struct {
		l    *exclude.List
		path string
		want exclude.Action
	}{
		{above, "/keep.o", exclude.Exclude},
		{below, "/keep.o", exclude.Include},
		{below, "/x.o", exclude.Exclude},
		{below, "/x.c", exclude.None},
		{nil, "/x", exclude.None},
		{exclude.NewList(nil), "/x", exclude.None},
	} {
		if got := tc.l.Match([]byte(tc.path), false); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.path, got, tc.want)
		}
	}
	if above.With(nil) != above {
		t.Error("nothing more is another list")
	}
}

// plain matches by the words of the package comment: every way is tried.
func plain(pattern, text string, start bool) bool {
	if pattern == "" {
		return text == ""
	}
	switch c := pattern[0]; c {
	case '*':
		rest := strings.TrimLeft(pattern, "*")
		double := len(pattern)-len(rest) > 1 && start && (rest == "" || rest[0] == '/')
		if double && rest != "" && plain(rest[1:], text, true) {
			return true
		}
		for i := 0; ; i++ {
			if plain(rest, text[i:], false) {
				return true
			}
			if i == len(text) || text[i] == '/' && !double {
				return false
			}
		}
	case '?':
		return text != "" && text[0] != '/' && plain(pattern[1:], text[1:], false)
	case '[':
		n := strings.IndexByte(pattern, ']')
		members, negated := strings.CutPrefix(pattern[1:n], "^")
		return text != "" && strings.IndexByte(members, text[0]) >= 0 != negated && plain(pattern[n+1:], text[1:], false)
	default:
		return text != "" && text[0] == c && plain(pattern[1:], text[1:], c == '/')
	}
}

func plainEnding(pattern, path string) bool {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' && plain(pattern, path[i+1:], true) {
			return true
		}
	}
	return plain(pattern, path, true)
}

func TestMatchingAgreesWithThePlainRule(t *testing.T) {
	pieces := []string{"a", "b", "aa", "ab", "*", "*", "**", "?", "[ab]", "[^a/]", "/", "/", "/**/", "/*/", "*a", "a*"}
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 4))
		text := func() string {
			var b strings.Builder
			for range 1 + rng.IntN(9) {
				b.WriteString(pieces[rng.IntN(len(pieces))])
			}
			text := b.String()
			for strings.Contains(text, "//") {
				text = strings.ReplaceAll(text, "//", "/")
			}
			return strings.TrimRight(text, "/")
		}
		var patterns []exclude.Pattern
		var texts []string
		for len(texts) < 1+rng.IntN(12) {
			if s := text(); s != "" {
				p, err := exclude.Parse(s, exclude.Action(1+rng.IntN(2)))
				if err != nil {
					t.Fatal(err)
				}
				patterns, texts = append(patterns, p), append(texts, s)
			}
		}
		all := lists(patterns)
		for range 40 {
			path := ""
			for range 1 + rng.IntN(5) {
				path += "/"
				for range 1 + rng.IntN(4) {
					path += string("aab"[rng.IntN(3)])
				}
			}
			want := exclude.None
			for i, s := range texts {
				matches := plainEnding(s, path)
				if patterns[i].Match([]byte(path), false) != matches {
					t.Fatalf("%q matches %q: %t, want %t", s, path, !matches, matches)
				}
				if matches {
					want = patterns[i].Action()
				}
				p := patterns[i].Anchor()
				if whole := plain(s, path, true); p.Match([]byte(path), false) != whole {
					t.Fatalf("%q, anchored, matches %q: %t, want %t", s, path, !whole, whole)
				}
			}
			for i, l := range all {
				if got := l.Match([]byte(path), false); got != want {
					t.Fatalf("list %d of %q: %q: %s, want %s", i, texts, path, got, want)
				}
			}
		}
	})
}

func TestHostilePatternsEndInTime(t *testing.T) {
	name := strings.Repeat("a", 250)
	for _, tc := range []struct{ pattern, path string }{
		{"**/**/**/a*a*a*a*b", strings.Repeat("/"+name, 16)},
		{strings.Repeat("a*", 2000) + "b", "/" + strings.Repeat("a", 4000)},
		{strings.Repeat("*a", 2000) + "b", "/" + strings.Repeat("a", 4000)},
		{strings.Repeat("**/", 1000) + "b", strings.Repeat("/a", 2000)},
		{strings.Repeat("**/a*/", 1000) + "b", strings.Repeat("/a", 2000)},
		{"x/" + strings.Repeat("**/a*a*/", 1000) + "b", strings.Repeat("/x/aaaaaa", 500)},
		{strings.Repeat("a/**/", 1000) + "b", strings.Repeat("/a", 2000)},
		{strings.Repeat("*[^x]", 1000) + "b", strings.Repeat("/a", 2000)},
		{strings.Repeat("**/[^x]*[^x]*/", 500) + "b", strings.Repeat("/aaa", 1000)},
	} {
		// With a set at its end, no look at the end of the path helps.
		for _, pattern := range []string{tc.pattern, strings.TrimSuffix(tc.pattern, "b") + "[b]"} {
			p := must(t, pattern)
			start := time.Now()
			if p.Match([]byte(tc.path), false) {
				t.Errorf("%.30q matches", pattern)
			}
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("%.30q took %v", pattern, d)
			} else {
				t.Logf("%.30q: %v", pattern, d)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"a", "!a/", "[a-c]*", "**/x", `\!a`, "//", "!!", "a/../[^/]", "[[:alpha:]-z]", "**/**/**/a*a*a*a*b"} {
		f.Add(text, "/a/b/c", "# c\n"+text)
	}
	f.Fuzz(func(t *testing.T, text, path, file string) {
		for _, by := range []exclude.Action{exclude.Exclude, exclude.Include} {
			p, err := exclude.Parse(text, by)
			if err != nil {
				if _, ok := errors.AsType[*exclude.SyntaxError](err); !ok {
					t.Fatal(err)
				}
				return
			}
			again, err := exclude.Parse(p.String(), exclude.Exclude)
			if err != nil || again.String() != p.String() || again.Action() != p.Action() || again.DirsOnly() != p.DirsOnly() {
				t.Fatalf("%q: %s, again %s, %v", text, p, again, err)
			}
			path := []byte("/" + path)
			want := p.Match(path, true)
			if again.Match(path, true) != want {
				t.Fatalf("%q and %q differ on %q", text, again, path)
			}
			for i, l := range lists([]exclude.Pattern{p}) {
				if got := l.Match(path, true) != exclude.None; got != want {
					t.Fatalf("%q in list %d: %t on %q, want %t", text, i, got, path, want)
				}
			}
		}
		patterns, bad := exclude.ParseFile("d", []byte(file))
		if n := strings.Count(file, "\n") + 1; len(patterns)+len(bad) > n {
			t.Fatalf("%d patterns and %d bad lines of %d", len(patterns), len(bad), n)
		}
	})
}

func BenchmarkList(b *testing.B) {
	var paths [][]byte
	for i := range 1000 {
		paths = append(paths, []byte(fmt.Sprintf("/usr/share/doc/package-%d/examples/sub%d/file-%d.txt", i%50, i%7, i)))
	}
	for _, n := range []int{5, 30, 300} {
		var patterns []exclude.Pattern
		for i := range n {
			texts := []string{"*.x%d", "/home/user%d/.cache", "node_modules%d", "**/build%d/**/*.o", "tmp%d*/", "/var/lib/*/data%d"}
			p, err := exclude.Parse(fmt.Sprintf(texts[i%len(texts)], i), exclude.Exclude)
			if err != nil {
				b.Fatal(err)
			}
			patterns = append(patterns, p)
		}
		l := exclude.NewList(patterns)
		b.Run(fmt.Sprintf("patterns=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if l.Match(paths[i%len(paths)], false) != exclude.None {
					b.Fatal("excluded")
				}
			}
		})
	}
}
