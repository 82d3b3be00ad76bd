// Package sectionconfig reads and writes the configuration files of a PBS
// server: datastore.cfg, user.cfg, remote.cfg, sync.cfg, verification.cfg,
// prune.cfg, notifications.cfg and others of that form.
//
// # Layout
//
// UTF-8 text of sections with an empty line between them. A section is a header
// and its properties, one a line:
//
//	datastore: tank
//		comment the big one
//		gc-schedule daily
//		path /mnt/tank
//
// A header starts in the first column with a letter: type, ":", id. A property
// starts with white space: key, white space, value. A line of nothing but white
// space ends a section. White space around types, ids, keys and values does not
// count. A value may be empty. There are no comments.
//
// A key may stand several times in a section; it then has several values, in
// their order. An id stands once in a file, whatever the type.
//
// # Written form
//
// What [File.Append] writes has sections in the order of File, properties sorted
// by key, one tab before a key and one blank behind it, and one empty line between
// sections: byte for byte what PBS writes. What PBS wrote comes back as it was.
//
// # Values
//
// Values are text. Booleans are written true and false, and read without regard
// to case as 1, on, yes, true and 0, off, no, false; integers are decimal, of 64
// bits. A value may be a property string, several values in one: see
// [ParseProperties].
//
// Which types and keys there are, and what their values must be, is not known
// here. What a reader does not know is kept as it is.
//
// # Errors
//
// Parse returns an error wrapping [ErrFormat] that names the line, and never any
// other. Append returns one wrapping ErrFormat for what could not be read back.
//
// # Source
//
// proxmox-rs: proxmox-section-config/src/lib.rs,
// proxmox-schema/src/property_string.rs, ser/mod.rs.
package sectionconfig

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
)

// ErrFormat is wrapped by all errors about text.
var ErrFormat = errors.New("not a valid section config")

// File is the content of a configuration file. The zero value is an empty file.
type File struct {
	Sections []*Section // in the order of the file
}

// Section is one section.
type Section struct {
	Type, ID string
	Props    []Property // in any order
}

// Property is a line of a section.
type Property struct{ Key, Value string }

// Find returns the section with an id, or nil.
func (f *File) Find(id string) *Section {
	for _, s := range f.Sections {
		if s.ID == id {
			return s
		}
	}
	return nil
}

// Of yields the sections of a type.
func (f *File) Of(kind string) iter.Seq[*Section] {
	return func(yield func(*Section) bool) {
		for _, s := range f.Sections {
			if s.Type == kind && !yield(s) {
				return
			}
		}
	}
}

// Add appends an empty section. It reports false, and returns the one that is
// there, if the id is taken.
func (f *File) Add(kind, id string) (*Section, bool) {
	if s := f.Find(id); s != nil {
		return s, false
	}
	s := &Section{Type: kind, ID: id}
	f.Sections = append(f.Sections, s)
	return s, true
}

// Remove takes a section out and reports whether it was there.
func (f *File) Remove(id string) bool {
	n := len(f.Sections)
	f.Sections = slices.DeleteFunc(f.Sections, func(s *Section) bool { return s.ID == id })
	return len(f.Sections) < n
}

// Get returns the first value of a key.
func (s *Section) Get(key string) (value string, ok bool) {
	for _, p := range s.Props {
		if p.Key == key {
			return p.Value, true
		}
	}
	return "", false
}

// All returns the values of a key, nil if there are none.
func (s *Section) All(key string) []string {
	var all []string
	for _, p := range s.Props {
		if p.Key == key {
			all = append(all, p.Value)
		}
	}
	return all
}

// Set gives a key these values and no others; without values it goes away.
func (s *Section) Set(key string, values ...string) {
	s.Props = slices.DeleteFunc(s.Props, func(p Property) bool { return p.Key == key })
	for _, v := range values {
		s.Props = append(s.Props, Property{key, v})
	}
}

// Bool returns the value of a key, or what holds without one.
func (s *Section) Bool(key string, without bool) (bool, error) {
	v, ok := s.Get(key)
	if !ok {
		return without, nil
	}
	b, err := ParseBool(v)
	if err != nil {
		return false, fmt.Errorf("section %q, %s: %w", s.ID, key, err)
	}
	return b, nil
}

// Int returns the value of a key, or what holds without one.
func (s *Section) Int(key string, without int64) (int64, error) {
	v, ok := s.Get(key)
	if !ok {
		return without, nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("section %q, %s: %w: %q is not an integer", s.ID, key, ErrFormat, v)
	}
	return n, nil
}

// ParseBool reads a boolean as PBS does, in files as in parameters of calls.
func ParseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "1", "on", "yes", "true":
		return true, nil
	case "0", "off", "no", "false":
		return false, nil
	}
	return false, fmt.Errorf("%w: %q is neither true nor false", ErrFormat, s)
}
