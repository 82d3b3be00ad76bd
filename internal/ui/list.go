package ui

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// List writes a JSON array value by value, so that it may be of any length.
// Until Close the array has no end: what was cut short does not look whole.
type List struct {
	w      io.Writer
	indent string // "" for one line
	begun  bool
	buf    bytes.Buffer
	err    error
}

// NewList begins an array in a JSON format.
func (f Format) NewList(w io.Writer) *List {
	l := &List{w: w}
	if f == JSONPretty {
		l.indent = "  "
	}
	return l
}

// Add appends a value. Its error is that of the writer, for good.
func (l *List) Add(v any) error {
	if l.err != nil {
		return l.err
	}
	l.buf.Reset()
	l.separate()
	e := json.NewEncoder(&l.buf)
	e.SetEscapeHTML(false)
	e.SetIndent(l.indent, l.indent)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("value of a JSON list: %w", err)
	}
	l.begun = true
	return l.write(bytes.TrimSuffix(l.buf.Bytes(), []byte("\n")))
}

// separate writes what stands before the next value.
func (l *List) separate() {
	if l.begun {
		l.buf.WriteByte(',')
	} else {
		l.buf.WriteByte('[')
	}
	if l.indent != "" {
		l.buf.WriteString("\n" + l.indent)
	}
}

// Close ends the array and its line.
func (l *List) Close() error {
	if l.err != nil {
		return l.err
	}
	end := "]\n"
	switch {
	case !l.begun:
		end = "[]\n"
	case l.indent != "":
		end = "\n]\n"
	}
	return l.write([]byte(end))
}

func (l *List) write(b []byte) error {
	_, l.err = l.w.Write(b)
	return l.err
}
