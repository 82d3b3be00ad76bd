// Package property says what a section of a configuration file can say: which keys
// there are, of which type and within which limits the values are.
//
// The files are those of package sectionconfig, in which every value is a text. A
// [Property] checks such a text; flags of commands, parameters of calls and what
// calls answer with are made of it too, so that all of them know the same.
//
// # Errors
//
// They name the key, and say what is wanted.
package property

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
)

// Type is what a value is in JSON.
type Type int

// The types.
const (
	Text Type = iota
	Number
	Flag
)

// Property is something that a section can say.
type Property struct {
	Key, Help string
	Type      Type
	Low, High int64    // limits of a number
	OneOf     []string // the only texts there are; nil: others too
	Many      bool     // it may stand several times
	Needed    bool

	check func(string) error
}

// Of is a text that check accepts.
func Of(key, help string, check func(string) error) Property {
	return Property{Key: key, Help: help, check: check}
}

// Int is a whole number within limits.
func Int(key, help string, low, high int64) Property {
	return Property{Key: key, Help: help, Type: Number, Low: low, High: high, check: func(s string) error {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < low || n > high {
			return fmt.Errorf("want a number from %d to %d", low, high)
		}
		return nil
	}}
}

// Bool is yes or no.
func Bool(key, help string) Property {
	return Property{Key: key, Help: help, Type: Flag, check: func(s string) error {
		_, err := sectionconfig.ParseBool(s)
		return err
	}}
}

// Choice is one of some words.
func Choice(key, help string, words ...string) Property {
	return Property{Key: key, Help: help, OneOf: words, check: func(s string) error {
		if !slices.Contains(words, s) {
			return fmt.Errorf("want %s", strings.Join(words, " or "))
		}
		return nil
	}}
}

// Line is a text of one line of at most limit bytes.
func Line(key, help string, limit int) Property {
	return Of(key, help, func(s string) error {
		if len(s) > limit || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return fmt.Errorf("want one line of at most %d bytes", limit)
		}
		return nil
	})
}

// Must is the same property, which every section has.
func (p Property) Must() Property {
	p.Needed = true
	return p
}

// List is the same property, which may stand several times.
func (p Property) List() Property {
	p.Many = true
	return p
}

// Check reports whether a text can be its value.
func (p Property) Check(text string) error {
	if err := p.check(text); err != nil {
		return fmt.Errorf("%s %q: %w", p.Key, text, err)
	}
	return nil
}

// value is a text of a file as it is in JSON; a text where it is none of its type.
func (p Property) value(text string) any {
	switch p.Type {
	case Number:
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n
		}
	case Flag:
		if on, err := sectionconfig.ParseBool(text); err == nil {
			return on
		}
	case Text:
	}
	return text
}

// Item is a section as it is in JSON, without its id. What is not known is a text.
func Item(sec *sectionconfig.Section, known []Property) map[string]any {
	item := map[string]any{}
	for _, p := range sec.Props {
		i := slices.IndexFunc(known, func(k Property) bool { return k.Key == p.Key })
		switch {
		case i < 0:
			item[p.Key] = p.Value
		case known[i].Many:
			list, _ := item[p.Key].([]any)
			item[p.Key] = append(list, known[i].value(p.Value))
		default:
			item[p.Key] = known[i].value(p.Value)
		}
	}
	return item
}

// Values are new values of properties; no value removes one.
type Values map[string][]string

// Set changes a section.
func (v Values) Set(sec *sectionconfig.Section, known []Property) error {
	for key, values := range v {
		i := slices.IndexFunc(known, func(p Property) bool { return p.Key == key })
		switch {
		case i < 0:
			return fmt.Errorf("there is no property %q", key)
		case len(values) > 1 && !known[i].Many:
			return fmt.Errorf("%s has one value", key)
		}
		for _, s := range values {
			if err := known[i].Check(s); err != nil {
				return err
			}
		}
		sec.Set(key, values...)
	}
	return nil
}

// Check reports what is wrong with a section.
func Check(sec *sectionconfig.Section, known []Property) error {
	var errs []error
	for _, p := range known {
		values := sec.All(p.Key)
		if len(values) == 0 && p.Needed {
			errs = append(errs, fmt.Errorf("%s is missing", p.Key))
		}
		for _, v := range values {
			if err := p.Check(v); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
