// Package words splits lines into commands of words, and quotes what is to be a
// word.
//
// # Syntax
//
// Blanks separate words; a ";" or the end of the line ends a command; from a "#"
// at the start of a word on, the rest of the line is a comment. Within a word:
//
//	\c       the byte c
//	'...'    what is between, as it is
//	"..."    what is between, where \n, \t and \r are those control characters, a
//	         backslash and three octal digits are a byte, and \c is the byte c
//
// So what internal/ui.Path prints can be put between double quotes, with a
// backslash before each double quote in it.
//
// A word is also a pattern of internal/exclude: there, a byte behind a backslash,
// unless between single quotes, stands for itself.
package words

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Word is a word of a command.
type Word struct {
	Text    string // the bytes that it stands for
	Pattern string // the pattern that it is
}

// SyntaxError says why a line is no list of commands.
type SyntaxError struct{ Reason string }

func (e *SyntaxError) Error() string { return e.Reason }

// Split returns the commands in a text of any number of lines, without empty ones.
func Split(text string) (commands [][]Word, err error) {
	for line := range strings.SplitSeq(text, "\n") {
		s := scan(line)
		if s.open != "" {
			return nil, &SyntaxError{fmt.Sprintf("%s: %.80q", s.open, line)}
		}
		s.endCommand()
		commands = append(commands, s.done...)
	}
	return commands, nil
}

// Last returns what stands before the end of a line that is being written: the
// words of its last command, the text of the word that it ends in, and where that
// word begins. An open quote is taken as closed.
func Last(line string) (before []Word, text string, start int) {
	s := scan(line)
	if !s.inWord {
		return s.words, "", len(line)
	}
	return s.words, s.text.String(), s.start
}

// scanner goes through one line.
type scanner struct {
	done          [][]Word
	words         []Word // of the command that goes on
	text, pattern strings.Builder
	inWord        bool
	start         int    // of the word
	open          string // what is missing at the end of the line, "" for nothing
}

func scan(line string) *scanner {
	s := &scanner{}
	for i := 0; i < len(line); {
		switch c := line[i]; {
		case c == ' ' || c == '\t' || c == '\r':
			s.endWord()
			i++
		case c == ';':
			s.endCommand()
			i++
		case c == '#' && !s.inWord:
			i = len(line)
			s.start = i
		default:
			if !s.inWord {
				s.inWord, s.start = true, i
			}
			i += s.piece(line[i:])
		}
	}
	return s
}

func (s *scanner) endWord() {
	if s.inWord {
		s.words = append(s.words, Word{s.text.String(), s.pattern.String()})
	}
	s.inWord = false
	s.text.Reset()
	s.pattern.Reset()
}

func (s *scanner) endCommand() {
	s.endWord()
	if len(s.words) > 0 {
		s.done = append(s.done, s.words)
	}
	s.words = nil
}

func (s *scanner) plain(c byte) {
	s.text.WriteByte(c)
	s.pattern.WriteByte(c)
}

func (s *scanner) escaped(c byte) {
	s.text.WriteByte(c)
	s.pattern.WriteByte('\\')
	s.pattern.WriteByte(c)
}

// piece reads a quoted part or a byte of a word, and returns its length.
func (s *scanner) piece(rest string) int {
	switch rest[0] {
	case '\\':
		if len(rest) == 1 {
			s.open = "a backslash is its end"
			return 1
		}
		s.escaped(rest[1])
		return 2
	case '\'':
		end := strings.IndexByte(rest[1:], '\'')
		if end < 0 {
			s.open = "a quote is not closed"
			end = len(rest) - 1
		}
		s.text.WriteString(rest[1 : 1+end])
		s.pattern.WriteString(rest[1 : 1+end])
		return min(1+end+1, len(rest))
	case '"':
		return s.double(rest)
	}
	s.plain(rest[0])
	return 1
}

func (s *scanner) double(rest string) int {
	for i := 1; i < len(rest); i++ {
		switch c := rest[i]; {
		case c == '"':
			return i + 1
		case c == '\\' && i+1 < len(rest):
			i++
			b, more := escape(rest[i:])
			s.escaped(b)
			i += more
		case c != '\\':
			s.plain(c)
		}
	}
	s.open = "a quote is not closed"
	return len(rest)
}

// escape returns the byte that stands behind a backslash between double quotes,
// and how many bytes more than one it takes.
func escape(rest string) (b byte, more int) {
	if len(rest) >= 3 && octal(rest[0], '3') && octal(rest[1], '7') && octal(rest[2], '7') {
		return (rest[0]-'0')<<6 | (rest[1]-'0')<<3 | (rest[2] - '0'), 2
	}
	switch rest[0] {
	case 'n':
		return '\n', 0
	case 't':
		return '\t', 0
	case 'r':
		return '\r', 0
	}
	return rest[0], 0
}

func octal(c, most byte) bool { return c >= '0' && c <= most }

// Quote returns a word for a text, in which nothing but printable characters are.
// As a pattern it stands for the text, unless that begins with "!".
func Quote(text string) string {
	if open := QuoteOpen(text); open != "" {
		return closed(open)
	}
	return `""`
}

// QuoteOpen is Quote for the beginning of a word that more is added to: a double
// quote stays open.
func QuoteOpen(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }) {
		return `"` + inDouble(text)
	}
	var b strings.Builder
	for i := range len(text) {
		if strings.IndexByte(" \\'\";*?[", text[i]) >= 0 || i == 0 && text[i] == '#' {
			b.WriteByte('\\')
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

func closed(open string) string {
	if open[0] == '"' {
		return open + `"`
	}
	return open
}

func inDouble(text string) string {
	var b strings.Builder
	for len(text) > 0 {
		r, n := utf8.DecodeRuneInString(text)
		switch {
		case strings.ContainsRune("\\\"*?[", r):
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == utf8.RuneError || !unicode.IsPrint(r):
			for i := range n {
				fmt.Fprintf(&b, `\%03o`, text[i])
			}
		default:
			b.WriteString(text[:n])
		}
		text = text[n:]
	}
	return b.String()
}
