package api

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Type is what a parameter is in JSON.
type Type string

// The types.
const (
	TypeText    Type = "string"
	TypeInteger Type = "integer"
	TypeBoolean Type = "boolean"
)

// Spec is what the table says of a parameter.
type Spec struct {
	Name     string
	Doc      string
	Type     Type
	List     bool // of values of Type
	Optional bool
	Default  any      // nil: none
	Min, Max int64    // of an integer; of a text its bytes
	Pattern  string   // of a text; "": any
	OneOf    []string // the only texts there are; nil: any
}

// AnyParam is a parameter of some type.
type AnyParam interface {
	Spec() Spec
	parse(texts []string) (any, error)
	fallback() (any, bool)
}

// Param is a parameter whose values are of type T.
type Param[T any] struct {
	spec   Spec
	read   func([]string) (T, error)
	preset *T
}

// Spec returns what the table says.
func (p Param[T]) Spec() Spec { return p.spec }

func (p Param[T]) parse(texts []string) (any, error) { return p.read(texts) }

func (p Param[T]) fallback() (any, bool) {
	if p.preset == nil {
		return nil, false
	}
	return *p.preset, true
}

// Of returns the value of a request; the zero value if an optional parameter was
// left out.
func (p Param[T]) Of(r *Request) T {
	v, _ := p.Given(r)
	return v
}

// Given returns the value and whether there is one.
func (p Param[T]) Given(r *Request) (T, bool) {
	v, ok := r.values[p.spec.Name]
	if !ok {
		var none T
		if !slices.ContainsFunc(r.Call.Params, func(q AnyParam) bool { return q.Spec().Name == p.spec.Name }) {
			panic("api: " + r.Call.Name() + " has no parameter " + p.spec.Name)
		}
		return none, false
	}
	return v.(T), true
}

// Optional is the same parameter, which may be left out.
func (p Param[T]) Optional() Param[T] {
	p.spec.Optional = true
	return p
}

// Default is the same parameter with a value for when it is left out.
func (p Param[T]) Default(v T) Param[T] {
	p.spec.Optional, p.spec.Default, p.preset = true, v, &v
	return p
}

// As is the same parameter under another name.
func (p Param[T]) As(name, doc string) Param[T] {
	p.spec.Name, p.spec.Doc = name, doc
	return p
}

// Parsed is a text that parse makes a value of; pattern describes it. It has at
// most limit bytes.
func Parsed[T any](name, doc, pattern string, limit int, parse func(string) (T, error)) Param[T] {
	return Param[T]{
		spec: Spec{Name: name, Doc: doc, Type: TypeText, Max: int64(limit), Pattern: pattern},
		read: one(func(s string) (T, error) {
			if len(s) > limit {
				var none T
				return none, fmt.Errorf("%d bytes, at most %d are allowed", len(s), limit)
			}
			return parse(s)
		}),
	}
}

// Text is any text without control characters other than line ends and tabs.
func Text(name, doc string, limit int) Param[string] {
	return Parsed(name, doc, "", limit, func(s string) (string, error) {
		if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' && r != '\r' || r == 0x7f }) {
			return "", fmt.Errorf("control characters are not allowed")
		}
		return s, nil
	})
}

// Line is a text of one line.
func Line(name, doc string, limit int) Param[string] {
	return Match(name, doc, `[^\x00-\x1f\x7f]*`, limit)
}

// Match is a text that a pattern matches as a whole.
func Match(name, doc, pattern string, limit int) Param[string] {
	whole := regexp.MustCompile(`^(?:` + pattern + `)$`)
	return Parsed(name, doc, pattern, limit, func(s string) (string, error) {
		if !utf8.ValidString(s) || !whole.MatchString(s) {
			return "", fmt.Errorf("%.80q does not match %s", s, pattern)
		}
		return s, nil
	})
}

// Int is an integer within limits.
func Int(name, doc string, low, high int64) Param[int64] {
	return Param[int64]{
		spec: Spec{Name: name, Doc: doc, Type: TypeInteger, Min: low, Max: high},
		read: one(func(s string) (int64, error) {
			v, err := strconv.ParseInt(s, 10, 64)
			if err != nil || v < low || v > high {
				return 0, fmt.Errorf("%.40q is no whole number from %d to %d", s, low, high)
			}
			return v, nil
		}),
	}
}

// Bool is yes or no.
func Bool(name, doc string) Param[bool] {
	return Param[bool]{
		spec: Spec{Name: name, Doc: doc, Type: TypeBoolean},
		read: one(func(s string) (bool, error) {
			switch strings.ToLower(s) {
			case "1", "on", "yes", "true":
				return true, nil
			case "0", "off", "no", "false":
				return false, nil
			}
			return false, fmt.Errorf("%.40q is neither true nor false", s)
		}),
	}
}

// Choice is one of some texts.
func Choice[T ~string](name, doc string, texts ...T) Param[T] {
	p := Parsed(name, doc, "", 256, func(s string) (T, error) {
		if !slices.Contains(texts, T(s)) {
			return "", fmt.Errorf("%.40q is none of %v", s, texts)
		}
		return T(s), nil
	})
	for _, t := range texts {
		p.spec.OneOf = append(p.spec.OneOf, string(t))
	}
	return p
}

// List is any number of values, up to 1000.
func List[T any](p Param[T]) Param[[]T] {
	const most = 1000
	spec := p.spec
	spec.List, spec.Optional = true, true
	return Param[[]T]{spec: spec, read: func(texts []string) ([]T, error) {
		if len(texts) > most {
			return nil, fmt.Errorf("%d values, at most %d are allowed", len(texts), most)
		}
		list := make([]T, 0, len(texts))
		for _, s := range texts {
			v, err := p.read([]string{s})
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	}}
}

// one makes a reader of single values.
func one[T any](parse func(string) (T, error)) func([]string) (T, error) {
	return func(texts []string) (T, error) {
		if len(texts) != 1 {
			var none T
			return none, fmt.Errorf("it is given %d times", len(texts))
		}
		return parse(texts[0])
	}
}
