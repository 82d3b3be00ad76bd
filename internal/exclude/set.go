package exclude

import "strings"

// set is a set of bytes.
type set [4]uint64

func (s *set) has(c byte) bool { return s[c>>6]>>(c&63)&1 != 0 }
func (s *set) add(c byte)      { s[c>>6] |= 1 << (c & 63) }

func (s *set) addRange(from, to byte) {
	if from > to {
		from, to = to, from
	}
	for c := int(from); c <= int(to); c++ {
		s.add(byte(c))
	}
}

// ranges of the named classes, in pairs.
var classes = map[string]string{
	"alnum":  "09AZaz",
	"alpha":  "AZaz",
	"blank":  "  \t\t",
	"cntrl":  "\x00\x1f\x7f\x7f",
	"digit":  "09",
	"graph":  "!~",
	"lower":  "az",
	"print":  " \x7f",
	"punct":  "!/:@[`{~",
	"space":  "  \t\n\f\r",
	"upper":  "AZ",
	"xdigit": "09AFaf",
}

// parseSet reads "[...]" at the start of text and returns its length, or why it
// is none.
func parseSet(text string) (s *set, n int, reason string) {
	const unclosed = `a "[" is not closed`
	s = new(set)
	i := 1
	negated := strings.HasPrefix(text[i:], "^")
	if negated {
		i++
	}
	before := -1 // the single byte that a range could start with
	for i < len(text) {
		c := text[i]
		i++
		switch {
		case c == ']':
			if negated {
				for k := range s {
					s[k] = ^s[k]
				}
			}
			return s, i, ""
		case c == '[' && strings.HasPrefix(text[i:], ":"):
			name, _, ok := strings.Cut(text[i+1:], ":]")
			ranges := classes[name]
			if !ok || ranges == "" {
				return nil, 0, `a "[:" starts no class`
			}
			for ; ranges != ""; ranges = ranges[2:] {
				s.addRange(ranges[0], ranges[1])
			}
			i += len(name) + 3
			before = -1
		case c == '-' && before >= 0:
			if i < len(text) && text[i] == '\\' {
				i++
			}
			if i >= len(text) {
				return nil, 0, unclosed
			}
			s.addRange(byte(before), text[i])
			i++
			before = -1
		case c == '\\':
			if i == len(text) {
				return nil, 0, `a "\" is its end`
			}
			c = text[i]
			i++
			fallthrough
		default:
			s.add(c)
			before = int(c)
		}
	}
	return nil, 0, unclosed
}
