package exclude

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// MaxText is the length of the longest pattern in bytes.
const MaxText = 16 << 10

type partKind uint8

const (
	literal partKind = iota
	anyByte
	oneOf
	star
	doubleStar
)

// part is one piece of a glob.
type part struct {
	kind partKind
	text string // of a literal
	set  *set   // of oneOf
	nth  int    // of a doubleStar: which of them it is, from 0
}

// glob is a compiled pattern, and what can be said of its matches without trying.
type glob struct {
	parts   []part
	slashes int    // in every text that it matches, -1: they vary
	tail    string // every text that it matches ends with it
	name    bool   // the last name of every such text is tail's
	doubles int    // parts of kind doubleStar
}

// compile returns why not, if text is no glob.
func compile(text string) (glob, string) {
	var g glob
	var run []byte // of literal bytes
	add := func(p part) {
		if len(run) > 0 {
			g.parts = append(g.parts, part{kind: literal, text: string(run)})
			run = run[:0]
		}
		g.parts = append(g.parts, p)
	}
	if len(text) > MaxText {
		return g, fmt.Sprintf("it has %d bytes, at most %d are possible", len(text), MaxText)
	}
	if strings.IndexByte(text, 0) >= 0 {
		return g, "it holds a NUL byte"
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '\\':
			if i++; i == len(text) {
				return g, `a "\" is its end`
			}
			run = append(run, text[i])
		case '?':
			add(part{kind: anyByte})
		case '*':
			from := i
			for i+1 < len(text) && text[i+1] == '*' {
				i++
			}
			kind := star
			if i > from && (from == 0 || text[from-1] == '/') && (i+1 == len(text) || text[i+1] == '/') {
				kind = doubleStar
			}
			add(part{kind: kind})
		case '[':
			s, n, reason := parseSet(text[i:])
			if reason != "" {
				return g, reason
			}
			add(part{kind: oneOf, set: s})
			i += n - 1
		default:
			run = append(run, c)
		}
	}
	if len(run) > 0 {
		g.parts = append(g.parts, part{kind: literal, text: string(run)})
	}
	g.describe()
	return g, ""
}

func (g *glob) describe() {
	vary := false
	for i, p := range g.parts {
		switch {
		case p.kind == literal:
			g.slashes += strings.Count(p.text, "/")
		case p.kind == doubleStar:
			g.parts[i].nth = g.doubles
			g.doubles++
			vary = true
		case p.kind == oneOf && p.set.has('/'):
			vary = true
		}
	}
	if vary {
		g.slashes = -1
	}
	n := len(g.parts) - 1
	if n < 0 || g.parts[n].kind != literal {
		return
	}
	g.tail = g.parts[n].text
	g.name = n == 0 || strings.Contains(g.tail, "/")
	if n > 0 && g.parts[n-1].kind == doubleStar {
		g.tail = g.tail[1:] // its slash may be left out
	}
}

// lastName returns the last name of everything that the glob matches, if there
// is only one.
func (g *glob) lastName() (string, bool) {
	return g.tail[strings.LastIndexByte(g.tail, '/')+1:], g.name
}

// whole reports whether the glob matches all of text.
func (g *glob) whole(text []byte) bool {
	if len(g.parts) == 0 || !hasSuffix(text, g.tail) {
		return false
	}
	m := matcher{glob: g, text: text}
	return m.run(0, 0, false) == match
}

// ending reports whether the glob matches an ending of path behind a slash, or
// all of it. base is where its last name starts.
func (g *glob) ending(path []byte, base int) bool {
	if len(g.parts) == 0 || !hasSuffix(path, g.tail) {
		return false
	}
	switch {
	case len(g.parts) == 1 && g.parts[0].kind == literal:
		at := len(path) - len(g.tail)
		return at == 0 || path[at-1] == '/'
	case g.parts[0].kind == doubleStar:
		return g.whole(path) // it takes what stands before an ending, too
	}
	m := matcher{glob: g, text: path}
	start := base
	for count := 0; ; count++ { // slashes in the ending
		if (g.slashes < 0 || g.slashes == count) && m.run(0, start, false) == match {
			return true
		}
		if start == 0 || count == g.slashes {
			return false
		}
		start = bytes.LastIndexByte(path[:start-1], '/') + 1
	}
}

func hasSuffix(b []byte, s string) bool {
	return len(b) >= len(s) && string(b[len(b)-len(s):]) == s
}

type outcome uint8

const (
	match      outcome = iota
	noMatch            // here; perhaps further on
	beyondName         // not before the next slash; a double star may go on
	never              // the text is at its end: further on there is only less
)

// matcher matches one text. Only the star passed last is ever tried further on:
// what stands before it has matched, and the shorter the better. Double stars
// nest, and what they have tried in vain is remembered, or time would double with
// each.
type matcher struct {
	*glob
	text   []byte
	failed []int    // by double star: its loop was tried from here to the end
	gone   []uint64 // bits by double star and offset: tried without the slash
}

// run matches the parts from pi on at text[at:]; bare leaves out the slash that
// the first of them begins with.
func (m *matcher) run(pi, at int, bare bool) outcome {
	starPart, starAt := -1, 0
	for {
		result := match
	parts:
		for ; pi < len(m.parts); pi++ {
			p := &m.parts[pi]
			if at == len(m.text) && !(p.kind == star && pi == len(m.parts)-1) && p.kind != doubleStar {
				return never
			}
			switch p.kind {
			case literal:
				text := p.text
				if bare {
					text, bare = text[1:], false
				}
				if rest := m.text[at:]; len(rest) < len(text) || string(rest[:len(text)]) != text {
					result = noMatch
					break parts
				}
				at += len(text)
			case anyByte:
				if m.text[at] == '/' {
					result = noMatch
					break parts
				}
				at++
			case oneOf:
				if !p.set.has(m.text[at]) {
					result = noMatch
					break parts
				}
				at++
			case star:
				if pi == len(m.parts)-1 && bytes.IndexByte(m.text[at:], '/') < 0 {
					return match
				}
				starPart, starAt = pi, at
			case doubleStar:
				return m.double(pi, at)
			}
		}
		switch {
		case result == match && at == len(m.text):
			return match
		case starPart < 0:
			return noMatch
		case m.text[starAt] == '/':
			return beyondName
		}
		if starAt++; starAt == len(m.text) {
			return never
		}
		pi, at = starPart+1, starAt
	}
}

// double matches from a double star on: match or never.
func (m *matcher) double(pi, at int) outcome {
	if pi == len(m.parts)-1 {
		return match
	}
	end := len(m.text)
	nth := m.parts[pi].nth
	if m.doubles > 1 {
		if m.failed == nil {
			m.failed = slices.Repeat([]int{end}, m.doubles)
			m.gone = make([]uint64, (m.doubles*(end+1)+63)/64)
		}
		end = m.failed[nth]
		m.failed[nth] = min(end, at)
	}
	if !m.visited(nth, at) && m.run(pi+1, at, true) == match {
		return match
	}
	for ; at < end; at++ {
		if r := m.run(pi+1, at, false); r == match || r == never {
			return r
		}
	}
	return never
}

// visited reports whether it was called with the same values before.
func (m *matcher) visited(nth, at int) bool {
	if m.doubles < 2 {
		return false
	}
	i := nth*(len(m.text)+1) + at
	seen := m.gone[i/64]&(1<<(i%64)) != 0
	m.gone[i/64] |= 1 << (i % 64)
	return seen
}
