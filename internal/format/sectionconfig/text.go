package sectionconfig

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Parse reads a file.
func Parse(text []byte) (*File, error) {
	if !utf8.Valid(text) {
		return nil, fmt.Errorf("%w: not UTF-8", ErrFormat)
	}
	f := &File{}
	headers := map[string]int{} // line of each id
	var in *Section
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		first, _ := utf8.DecodeRuneInString(line)
		switch {
		case strings.TrimSpace(line) == "":
			in = nil
		case in == nil:
			s, err := parseHeader(line)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
			if headers[s.ID] != 0 {
				return nil, fmt.Errorf("line %d: %w: section %q is there already, in line %d", n, ErrFormat, s.ID, headers[s.ID])
			}
			headers[s.ID] = n
			f.Sections = append(f.Sections, s)
			in = s
		case !unicode.IsSpace(first):
			return nil, fmt.Errorf("line %d: %w: want a property, with white space before it, or an empty line", n, ErrFormat)
		default:
			p, err := parseProperty(line)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
			in.Props = append(in.Props, p)
		}
	}
	return f, nil
}

func parseHeader(line string) (*Section, error) {
	if first, _ := utf8.DecodeRuneInString(line); unicode.IsSpace(first) {
		return nil, fmt.Errorf("%w: a property without a section", ErrFormat)
	}
	kind, id, ok := strings.Cut(line, ":")
	if !ok {
		return nil, fmt.Errorf("%w: want a header, <type>: <id>", ErrFormat)
	}
	s := &Section{Type: strings.TrimSpace(kind), ID: strings.TrimSpace(id)}
	return s, s.check()
}

func parseProperty(line string) (Property, error) {
	line = strings.TrimSpace(line)
	end := strings.IndexFunc(line, unicode.IsSpace)
	if end < 0 {
		end = len(line) // an empty value: its blank may be gone
	}
	p := Property{line[:end], strings.TrimSpace(line[end:])}
	return p, p.check()
}

// Append appends the written form to b.
func (f *File) Append(b []byte) ([]byte, error) {
	seen := map[string]bool{}
	for i, s := range f.Sections {
		if err := s.check(); err != nil {
			return nil, err
		}
		if seen[s.ID] {
			return nil, fmt.Errorf("%w: two sections %q", ErrFormat, s.ID)
		}
		seen[s.ID] = true
		if i > 0 {
			b = append(b, '\n')
		}
		b = fmt.Appendf(b, "%s: %s\n", s.Type, s.ID)
		sorted := slices.Clone(s.Props)
		slices.SortStableFunc(sorted, func(a, b Property) int { return strings.Compare(a.Key, b.Key) })
		for _, p := range sorted {
			if err := p.check(); err != nil {
				return nil, fmt.Errorf("section %q: %w", s.ID, err)
			}
			b = fmt.Appendf(b, "\t%s %s\n", p.Key, p.Value)
		}
	}
	return b, nil
}

// check reports what a header could not carry.
func (s *Section) check() error {
	for i, c := range []byte(s.Type) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || !(c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.')) {
			return fmt.Errorf("%w: %q is not a type of sections", ErrFormat, s.Type)
		}
	}
	if s.Type == "" {
		return fmt.Errorf("%w: a header without a type", ErrFormat)
	}
	if s.ID == "" {
		return fmt.Errorf("%w: a section of type %s without an id", ErrFormat, s.Type)
	}
	if !plain(s.ID) {
		return fmt.Errorf("%w: %q is not an id of a section", ErrFormat, s.ID)
	}
	return nil
}

// check reports what a line could not carry.
func (p Property) check() error {
	if p.Key == "" || !plain(p.Key) || strings.ContainsFunc(p.Key, unicode.IsSpace) {
		return fmt.Errorf("%w: %q is not a key", ErrFormat, p.Key)
	}
	if !plain(p.Value) {
		return fmt.Errorf("%w: the value of %s must be one line without control characters and without white space around it", ErrFormat, p.Key)
	}
	return nil
}

// plain reports whether text is one line that comes back as it is.
func plain(s string) bool {
	return utf8.ValidString(s) && strings.TrimSpace(s) == s && !strings.ContainsFunc(s, unicode.IsControl)
}
