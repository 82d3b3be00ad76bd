package ui

import (
	"encoding/json"
	"fmt"
	"io"
)

// Format is the value of --output-format.
type Format string

// The output formats.
const (
	Text       Format = "text"
	JSON       Format = "json"
	JSONPretty Format = "json-pretty"
)

// ParseFormat reads the name of a format.
func ParseFormat(s string) (Format, error) {
	switch f := Format(s); f {
	case Text, JSON, JSONPretty:
		return f, nil
	}
	return "", fmt.Errorf("unknown --output-format %q: it is text, json or json-pretty", s)
}

// IsJSON reports whether f is one of the JSON forms.
func (f Format) IsJSON() bool { return f == JSON || f == JSONPretty }

// WriteJSON writes v as one JSON value and a line feed.
func (f Format) WriteJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	if f == JSONPretty {
		e.SetIndent("", "  ")
	}
	return e.Encode(v)
}
