package browse

import (
	"path"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/exclude"
)

// Clean makes a path of what a user wrote while in the directory at.
func Clean(at, text string) string {
	if !strings.HasPrefix(text, "/") {
		text = at + "/" + text
	}
	return path.Clean("/" + text)
}

// Join is the path of a name in a directory.
func Join(dir, name string) string {
	return strings.TrimSuffix(dir, "/") + "/" + name
}

// Pattern makes a pattern of what a user wrote while in the directory at. It
// matches whole paths: "*.conf" is in that directory, "**/*.conf" also below it,
// "/etc/*.conf" in /etc. With a "!" at its start, what it matches is left out.
func Pattern(at, text string) (exclude.Pattern, error) {
	rest, not := strings.CutPrefix(text, "!")
	rest = absolute(at, rest)
	if not {
		rest = "!" + rest
	}
	p, err := exclude.Parse(rest, exclude.Include)
	return p.Anchor(), err
}

// absolute is a pattern, written while in a directory, from the root on.
func absolute(at, text string) string {
	if strings.HasPrefix(text, "/") {
		return text
	}
	return strings.TrimSuffix(exclude.Quote(at), "/") + "/" + text
}

// IsGlob reports whether a pattern can match something else than one path.
func IsGlob(pattern string) bool {
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '\\':
			i++
		case '*', '?', '[':
			return true
		}
	}
	return false
}

// unquote is the text that a pattern without "*", "?" and "[" stands for.
func unquote(pattern string) string {
	if !strings.Contains(pattern, `\`) {
		return pattern
	}
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		if pattern[i] == '\\' && i+1 < len(pattern) {
			i++
		}
		b.WriteByte(pattern[i])
	}
	return b.String()
}
