package lvm

import (
	"bytes"
	"strconv"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// section is what lies between braces. A value is a string, an int64 or a list of
// them.
type section struct {
	name     string
	order    []*section
	sections map[string]*section
	values   map[string]any
}

// maxNesting is deeper than any text of LVM.
const maxNesting = 8

// parseGroup gives the one section at the top of a text, that of the group.
func parseGroup(text []byte) (*section, error) {
	p := parser{b: bytes.TrimRight(text, "\x00")}
	top, err := p.section("", 0)
	if err != nil {
		return nil, err
	}
	if len(top.order) != 1 {
		return nil, p.corrupt("%d groups", len(top.order))
	}
	return top.order[0], nil
}

// parser goes through a text once.
//
//	text    = { name "=" value | name "{" text "}" }
//	value   = string | number | "[" [ value { "," value } ] "]"
type parser struct {
	b  []byte
	at int
}

func (p *parser) corrupt(format string, args ...any) error {
	return fsread.Corrupt(layer, "text of the group, byte %d: "+format, append([]any{p.at}, args...)...)
}

// blank skips white space and comments, and gives the next byte, 0 at the end.
func (p *parser) blank() byte {
	for p.at < len(p.b) {
		switch c := p.b[p.at]; c {
		case ' ', '\t', '\n', '\r':
			p.at++
		case '#':
			for p.at < len(p.b) && p.b[p.at] != '\n' {
				p.at++
			}
		default:
			return c
		}
	}
	return 0
}

func (p *parser) section(name string, depth int) (*section, error) {
	if depth > maxNesting {
		return nil, p.corrupt("more than %d sections in one another", maxNesting)
	}
	s := &section{name: name, sections: map[string]*section{}, values: map[string]any{}}
	for {
		c := p.blank()
		if c == 0 && depth == 0 || c == '}' && depth > 0 {
			p.at++
			return s, nil
		}
		key := p.word()
		if key == "" {
			return nil, p.corrupt("%q where a name is awaited", c)
		}
		var err error
		switch p.blank() {
		case '{':
			p.at++
			var sub *section
			if sub, err = p.section(key, depth+1); err == nil && s.sections[key] == nil {
				s.sections[key] = sub
				s.order = append(s.order, sub)
			}
		case '=':
			p.at++
			s.values[key], err = p.value()
		default:
			err = p.corrupt("%q is neither a value nor a section", key)
		}
		if err != nil {
			return nil, err
		}
	}
}

// word is a name, or a number.
func (p *parser) word() string {
	from := p.at
	for p.at < len(p.b) && !bytes.ContainsRune([]byte(" \t\r\n#{}[]=,\"\x00"), rune(p.b[p.at])) {
		p.at++
	}
	return string(p.b[from:p.at])
}

func (p *parser) value() (any, error) {
	if p.blank() != '[' {
		return p.scalar()
	}
	p.at++
	list := []any{}
	for {
		switch p.blank() {
		case ']':
			p.at++
			return list, nil
		case ',':
			p.at++
			continue
		}
		v, err := p.scalar()
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
}

func (p *parser) scalar() (any, error) {
	if p.blank() == '"' {
		return p.quoted()
	}
	w := p.word()
	if w == "" {
		return nil, p.corrupt("a value is missing")
	}
	if n, err := strconv.ParseInt(w, 10, 64); err == nil {
		return n, nil
	}
	return w, nil // a number with a point, of some later version
}

func (p *parser) quoted() (string, error) {
	var s []byte
	for p.at++; p.at < len(p.b); p.at++ {
		switch c := p.b[p.at]; {
		case c == '"':
			p.at++
			return string(s), nil
		case c == '\\' && p.at+1 < len(p.b):
			p.at++
			s = append(s, p.b[p.at])
		default:
			s = append(s, c)
		}
	}
	return "", p.corrupt("a string without an end")
}

func (s *section) string(key string) (string, error) {
	v, ok := s.values[key].(string)
	if !ok {
		return "", fsread.Corrupt(layer, "text of the group: %s has no %s", s.name, key)
	}
	return v, nil
}

// number is one that is not negative.
func (s *section) number(key string) (int64, error) {
	v, ok := s.values[key].(int64)
	if !ok || v < 0 {
		return 0, fsread.Corrupt(layer, "text of the group: %s has no %s", s.name, key)
	}
	return v, nil
}

// numbers reads several.
func (s *section) numbers(keys map[string]*int64) (err error) {
	for key, to := range keys {
		if *to, err = s.number(key); err != nil {
			return err
		}
	}
	return nil
}

// sub is a section inside, an empty one if there is none.
func (s *section) sub(name string) *section {
	if sub := s.sections[name]; sub != nil {
		return sub
	}
	return &section{name: name}
}

// has reports that a list of strings has a word.
func (s *section) has(key, word string) bool {
	list, _ := s.values[key].([]any)
	for _, v := range list {
		if v == any(word) {
			return true
		}
	}
	return false
}
