package canonjson

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ErrNotCanonical is wrapped for values that have no canonical form.
var ErrNotCanonical = errors.New("no canonical JSON")

// AppendCanonical appends the canonical form of v to dst.
func AppendCanonical(dst []byte, v any) ([]byte, error) {
	return writer{}.append(dst, v, 0)
}

// AppendIndent appends the indented form of v to dst, without a line end.
func AppendIndent(dst []byte, v any) ([]byte, error) {
	return writer{indent: true}.append(dst, v, 0)
}

type writer struct{ indent bool }

func (w writer) append(dst []byte, v any, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%w: more than %d levels", ErrNotCanonical, maxDepth)
	}
	switch v := v.(type) {
	case nil:
		if !w.indent {
			return nil, fmt.Errorf("%w: null", ErrNotCanonical)
		}
		return append(dst, "null"...), nil
	case bool:
		return strconv.AppendBool(dst, v), nil
	case int64:
		return strconv.AppendInt(dst, v, 10), nil
	case uint64:
		return strconv.AppendUint(dst, v, 10), nil
	case json.Number:
		if !w.indent && !isInteger(string(v)) {
			return nil, fmt.Errorf("%w: number %.40q is no integer of 64 bits", ErrNotCanonical, string(v))
		}
		return append(dst, v...), nil
	case string:
		return appendString(dst, v)
	case []any:
		return w.array(dst, v, depth)
	case map[string]any:
		return w.object(dst, v, depth)
	}
	return nil, fmt.Errorf("%w: a value of type %T", ErrNotCanonical, v)
}

func (w writer) array(dst []byte, a []any, depth int) ([]byte, error) {
	dst = append(dst, '[')
	for i, v := range a {
		dst = w.before(dst, i, depth+1)
		var err error
		if dst, err = w.append(dst, v, depth+1); err != nil {
			return nil, err
		}
	}
	return append(w.after(dst, len(a), depth), ']'), nil
}

func (w writer) object(dst []byte, o map[string]any, depth int) ([]byte, error) {
	dst = append(dst, '{')
	for i, key := range slices.Sorted(maps.Keys(o)) {
		dst = w.before(dst, i, depth+1)
		var err error
		if dst, err = appendString(dst, key); err != nil {
			return nil, err
		}
		dst = append(dst, ':')
		if w.indent {
			dst = append(dst, ' ')
		}
		if dst, err = w.append(dst, o[key], depth+1); err != nil {
			return nil, fmt.Errorf("%.100q: %w", key, err)
		}
	}
	return append(w.after(dst, len(o), depth), '}'), nil
}

// before writes what stands before member i.
func (w writer) before(dst []byte, i, depth int) []byte {
	if i > 0 {
		dst = append(dst, ',')
	}
	return w.newline(dst, depth)
}

// after writes what stands behind the last of n members.
func (w writer) after(dst []byte, n, depth int) []byte {
	if n == 0 {
		return dst
	}
	return w.newline(dst, depth)
}

func (w writer) newline(dst []byte, depth int) []byte {
	if !w.indent {
		return dst
	}
	dst = append(dst, '\n')
	for range depth {
		dst = append(dst, "  "...)
	}
	return dst
}

func appendString(dst []byte, s string) ([]byte, error) {
	if !utf8.ValidString(s) {
		return nil, fmt.Errorf("%w: %.40q is not UTF-8", ErrNotCanonical, s)
	}
	const hexDigits = "0123456789abcdef"
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c >= 0x20:
			dst = append(dst, c)
		case c == '\b':
			dst = append(dst, `\b`...)
		case c == '\t':
			dst = append(dst, `\t`...)
		case c == '\n':
			dst = append(dst, `\n`...)
		case c == '\f':
			dst = append(dst, `\f`...)
		case c == '\r':
			dst = append(dst, `\r`...)
		default:
			dst = append(dst, `\u00`...)
			dst = append(dst, hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(dst, '"'), nil
}

// isInteger reports whether s is an integer in its shortest form that fits
// int64 or uint64.
func isInteger(s string) bool {
	if strings.HasPrefix(s, "-") {
		n, err := strconv.ParseInt(s, 10, 64)
		return err == nil && strconv.FormatInt(n, 10) == s
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return err == nil && strconv.FormatUint(n, 10) == s
}
