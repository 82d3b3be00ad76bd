package exclude

import (
	"bytes"
	"strings"
)

// few patterns are tried one by one.
const few = 8

// List is an ordered list of patterns. Lists do not change and may be used by any
// number of goroutines; the nil List is empty.
type List struct {
	above    *List // its patterns come before
	patterns []Pattern

	// The patterns by what they leave possible, in ascending order; only if there
	// are more than a few.
	byName map[string][]int32 // the last name of the path
	byEnd  map[byte][]int32   // the last byte of the path
	rest   []int32
}

// NewList returns a list of patterns, and keeps them.
func NewList(patterns []Pattern) *List { return (*List)(nil).With(patterns) }

// With returns a list that has more patterns behind those of l, as for the
// directory of a .pxarexclude file. It takes no copy of l.
func (l *List) With(more []Pattern) *List {
	if len(more) == 0 {
		return l
	}
	n := &List{above: l, patterns: more}
	if len(more) <= few {
		return n
	}
	n.byName, n.byEnd = map[string][]int32{}, map[byte][]int32{}
	for i := range more {
		g := &more[i].glob
		if name, ok := g.lastName(); ok {
			n.byName[name] = append(n.byName[name], int32(i))
		} else if g.tail != "" {
			end := g.tail[len(g.tail)-1]
			n.byEnd[end] = append(n.byEnd[end], int32(i))
		} else {
			n.rest = append(n.rest, int32(i))
		}
	}
	return n
}

// Match returns what the last pattern that matches says of a path, see Lists
// above. dir is whether it is that of a directory.
func (l *List) Match(path []byte, dir bool) Action {
	if l == nil || len(path) == 0 {
		return None
	}
	base := bytes.LastIndexByte(path, '/') + 1
	for ; l != nil; l = l.above {
		if i := l.last(path, base, dir); i >= 0 {
			return l.patterns[i].action
		}
	}
	return None
}

// last returns the last pattern of this list alone that matches, or -1.
func (l *List) last(path []byte, base int, dir bool) int {
	if l.byName == nil {
		for i := len(l.patterns) - 1; i >= 0; i-- {
			if l.patterns[i].match(path, base, dir) {
				return i
			}
		}
		return -1
	}
	best := -1
	for _, some := range [...][]int32{l.byName[string(path[base:])], l.byEnd[path[len(path)-1]], l.rest} {
		for k := len(some) - 1; k >= 0 && int(some[k]) > best; k-- {
			if l.patterns[some[k]].match(path, base, dir) {
				best = int(some[k])
				break
			}
		}
	}
	return best
}

// Bad is a line of a .pxarexclude file that is no pattern. The others count.
type Bad struct {
	Line int // from 1
	Err  error
}

// ParseFile reads the content of the .pxarexclude file of a directory, which is
// named by its path in the archive, "" for the root.
func ParseFile(dir string, content []byte) (patterns []Pattern, bad []Bad) {
	number := 0
	for line := range bytes.SplitSeq(content, []byte("\n")) {
		number++
		text := string(bytes.Trim(line, " \t\n\f\r"))
		if text == "" || text[0] == '#' {
			continue
		}
		p, err := parseLine(dir, text)
		if err != nil {
			bad = append(bad, Bad{number, err})
			continue
		}
		patterns = append(patterns, p)
	}
	return patterns, bad
}

func parseLine(dir, text string) (Pattern, error) {
	action := Exclude
	if rest, ok := strings.CutPrefix(text, "!"); ok {
		action, text = Include, rest
	}
	if !strings.HasPrefix(text, "/") {
		return Parse(text, action)
	}
	p, err := Parse("/"+Quote(strings.Trim(dir, "/"))+text, action)
	return p.Anchor(), err
}

// Quote makes a pattern that matches nothing but name. A "!" at its start still
// means what it means.
func Quote(name string) string {
	var b strings.Builder
	for i := range len(name) {
		if strings.IndexByte(`\*?[`, name[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(name[i])
	}
	return b.String()
}
