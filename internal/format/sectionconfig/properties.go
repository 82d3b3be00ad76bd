package sectionconfig

import (
	"fmt"
	"strings"
)

// Properties are several values in one, as in "verify-new=true,chunk-order=none".
// A value without a key has an empty key.
type Properties []Property

// ParseProperties reads a property string: pairs <key>=<value> separated by
// commas. One pair may have no key; then defaultKey is its key, and if that is
// empty, this is an error. A value in double quotes may hold anything; in it \"
// is a quote, \\ a backslash and \n a line end.
func ParseProperties(s, defaultKey string) (Properties, error) {
	var list Properties
	for rest := s; rest != ""; {
		p := Property{Key: defaultKey}
		if rest[0] != '"' {
			if i := strings.IndexAny(rest, ",="); i >= 0 && rest[i] == '=' {
				p.Key, rest = rest[:i], rest[i+1:]
			}
		}
		if strings.HasPrefix(rest, `"`) {
			var err error
			if p.Value, rest, err = unquote(rest[1:]); err != nil {
				return nil, err
			}
			if rest != "" && rest[0] != ',' {
				return nil, fmt.Errorf("%w: %q behind a quoted value", ErrFormat, rest)
			}
			rest = strings.TrimPrefix(rest, ",")
		} else {
			p.Value, rest, _ = strings.Cut(rest, ",")
		}
		if p.Key == "" {
			return nil, fmt.Errorf("%w: the value %q has no key", ErrFormat, p.Value)
		}
		if _, twice := list.Get(p.Key); twice {
			return nil, fmt.Errorf("%w: %s is there twice", ErrFormat, p.Key)
		}
		list = append(list, p)
	}
	return list, nil
}

// unquote reads up to the closing quote.
func unquote(s string) (value, rest string, err error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], nil
		case '\\':
			i++
			if i == len(s) {
				break
			}
			switch s[i] {
			case '"', '\\':
				b.WriteByte(s[i])
			case 'n':
				b.WriteByte('\n')
			default:
				return "", "", fmt.Errorf(`%w: \%c in a quoted value`, ErrFormat, s[i])
			}
		default:
			b.WriteByte(s[i])
		}
	}
	return "", "", fmt.Errorf("%w: a quoted value without its end", ErrFormat)
}

// Get returns the value of a key.
func (l Properties) Get(key string) (value string, ok bool) {
	for _, p := range l {
		if p.Key == key {
			return p.Value, true
		}
	}
	return "", false
}

// String is the property string, each value with its key, and quoted where PBS
// quotes.
func (l Properties) String() string {
	var b strings.Builder
	for i, p := range l {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(p.Key)
		b.WriteByte('=')
		if strings.ContainsAny(p.Value, ",; \"\\\n") {
			b.WriteByte('"')
			b.WriteString(strings.NewReplacer(`"`, `\"`, `\`, `\\`, "\n", `\n`).Replace(p.Value))
			b.WriteByte('"')
		} else {
			b.WriteString(p.Value)
		}
	}
	return b.String()
}
