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
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	return value(d, 0)
}

// syntaxError asks encoding/json where the fault is.
func syntaxError(b []byte) error {
	var v json.RawMessage
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	return errors.New("not one value")
}

// value reads the next value of syntax that is known to be valid.
func value(d *json.Decoder, depth int) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	open, ok := t.(json.Delim)
	if !ok {
		return t, nil
	}
	if depth == maxDepth {
		return nil, fmt.Errorf("%w: more than %d levels", ErrSyntax, maxDepth)
	}
	var v any
	if open == '[' {
		v, err = array(d, depth+1)
	} else {
		v, err = object(d, depth+1)
	}
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != nil { // the closing bracket
		return nil, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	return v, nil
}

func array(d *json.Decoder, depth int) ([]any, error) {
	a := []any{}
	for d.More() {
		v, err := value(d, depth)
		if err != nil {
			return nil, err
		}
		a = append(a, v)
	}
	return a, nil
}

func object(d *json.Decoder, depth int) (map[string]any, error) {
	o := map[string]any{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrSyntax, err)
		}
		key, ok := t.(string)
		if !ok {
			return nil, fmt.Errorf("%w: a key is not a string", ErrSyntax)
		}
		if _, twice := o[key]; twice {
			return nil, fmt.Errorf("%w: key %.100q appears twice", ErrSyntax, key)
		}
		if o[key], err = value(d, depth); err != nil {
			return nil, err
		}
	}
	return o, nil
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
