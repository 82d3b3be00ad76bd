// Package exclude decides which entries of a tree a backup leaves out. It works
// on byte strings alone and opens nothing.
//
// # Patterns
//
// A pattern is a glob over paths, byte by byte and case sensitive:
//
//	\c       the byte c
//	?        one byte, not "/"
//	*        any run without "/", also an empty one
//	**       any run, "/" included, if it stands between "/" or the ends of the
//	         pattern: "a/**/b" also matches a/b, "**/x" also x, "a/**" not a.
//	         Elsewhere it is "*". More stars are like two.
//	[...]    one byte of a set, "/" included: bytes, ranges such as a-z in either
//	         order, classes such as [:digit:], "\" before any byte. "^" at the
//	         start negates. A "-" where no byte stands before it is itself. "]"
//	         always ends the set, so "[]" matches nothing; "!" is a member.
//
// The classes are alnum alpha blank cntrl digit graph lower print punct space
// upper xdigit, of ASCII; print includes the byte 0x7f, and space is blank, \t,
// \n, \f and \r. Every match is of the whole text. Behind a "*", the shortest
// match of what follows is final once it has gone past a "/" that a set matched.
//
// The text of a pattern: "!" at its start turns exclude into include and the
// reverse. Then "." and ".." are resolved as in paths, ".." at the start of the
// text is dropped, and doubled slashes are one. Slashes at the end are taken off
// and mean "directories only"; when nothing is left, the pattern is "/".
//
// # Lists
//
// Paths begin with "/", the root of the archive, and are clean. A pattern matches
// a path if it matches one of its endings behind a "/" or the whole: so "foo"
// matches at any depth and "/foo" at the top. An anchored pattern has to match the
// whole.
//
// The last pattern of a list that matches decides; without one the entry is
// included. What is below an excluded directory is never asked for, so it cannot
// be included again.
//
// # .pxarexclude
//
// Lines, with white space taken off on both sides; empty ones and those that start
// with "#" do not count. The patterns of a file stand behind those of the
// directories above, and count below its directory only. "/x" and "!/x" are
// anchored at the directory of the file; "x" and "!x" match at any depth below it.
// Bytes of the directory's name that mean something in a pattern stand for
// themselves here, while the reference client takes them for patterns (and so
// finds nothing below a directory called "[a]").
//
// # Cost
//
// A pattern takes about 200 bytes and its text. Matching never takes more than a
// polynomial of pattern and path; a list asks only the patterns that the last
// name of the path leaves over.
//
// # Errors
//
// Parse gives a [*SyntaxError] and no other.
//
// # Source
//
// pathpatterns: src/pattern.rs, src/match_list.rs; proxmox-backup:
// pbs-client/src/pxar/create.rs.
package exclude

import (
	"bytes"
	"fmt"
	"strings"
)

// Action is what becomes of what a pattern matches.
type Action uint8

// The zero Action is that of an entry that no pattern matches.
const (
	None Action = iota
	Exclude
	Include
)

func (a Action) String() string {
	return [...]string{"none", "exclude", "include"}[a]
}

// SyntaxError says why a text is no pattern.
type SyntaxError struct {
	Text   string
	Reason string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("pattern %.200q: %s", e.Text, e.Reason)
}

// Pattern is a parsed pattern. The zero Pattern matches nothing.
type Pattern struct {
	text     string // without "!" and slashes at the end
	action   Action
	dirs     bool // directories only
	anchored bool
	glob     glob
}

// Parse reads the text of a pattern that stands for action, Exclude or Include,
// unless it begins with "!".
func Parse(text string, action Action) (Pattern, error) {
	p := Pattern{action: action}
	rest, inverted := strings.CutPrefix(text, "!")
	if inverted {
		p.action = Exclude + Include - action
	}
	rest = normalize(rest)
	p.text = strings.TrimRight(rest, "/")
	p.dirs = len(p.text) < len(rest)
	if p.text == "" {
		p.text, p.dirs = "/", true
	}
	g, reason := compile(p.text)
	if reason != "" {
		return Pattern{}, &SyntaxError{text, reason}
	}
	p.glob = g
	return p, nil
}

// Anchor returns the pattern, matching whole paths only.
func (p Pattern) Anchor() Pattern {
	p.anchored = true
	return p
}

// Action returns what becomes of what the pattern matches.
func (p Pattern) Action() Action { return p.action }

// DirsOnly reports whether the pattern matches nothing but directories.
func (p Pattern) DirsOnly() bool { return p.dirs }

// Anchored reports whether the pattern matches whole paths only.
func (p Pattern) Anchored() bool { return p.anchored }

// String returns the text of the pattern as an archive keeps it. Parse reads it
// as the same pattern, with Exclude as its action, unless it is anchored: that is
// not in the text.
func (p Pattern) String() string {
	text := p.text
	switch {
	case p.action == Include:
		text = "!" + text
	case strings.HasPrefix(text, "!"):
		text = `\` + text
	}
	if p.dirs && !p.anchored {
		text += "/"
	}
	return text
}

// Text returns the patterns as an archive keeps them, in the file
// ".pxarexclude-cli" or its prelude: one a line. A pattern that holds a line feed
// is not told from two.
func Text(patterns []Pattern) string {
	var b strings.Builder
	for _, p := range patterns {
		b.WriteString(p.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// Match reports whether the pattern matches a path, see Lists above.
func (p *Pattern) Match(path []byte, dir bool) bool {
	return p.match(path, bytes.LastIndexByte(path, '/')+1, dir)
}

// match is Match for a path whose last name starts at base.
func (p *Pattern) match(path []byte, base int, dir bool) bool {
	if p.dirs && !dir {
		return false
	}
	if p.anchored {
		return p.glob.whole(path)
	}
	return p.glob.ending(path, base)
}

// normalize resolves "." and ".." and doubled slashes, and keeps one slash at the
// end.
func normalize(text string) string {
	var kept []string
	for name := range strings.SplitSeq(text, "/") {
		switch name {
		case "", ".":
		case "..":
			kept = kept[:max(len(kept)-1, 0)]
		default:
			kept = append(kept, name)
		}
	}
	clean := strings.Join(kept, "/")
	if strings.HasPrefix(text, "/") {
		clean = "/" + clean
	}
	if strings.HasSuffix(text, "/") && len(kept) > 0 {
		clean += "/"
	}
	return clean
}
