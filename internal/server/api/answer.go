package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"reflect"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/proto/repoerr"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
)

// Format is the form of answers.
type Format string

// The forms there are.
const (
	JSON  Format = "json"
	ExtJS Format = "extjs"
)

// Media is the type of an answer, that of an error included.
const Media = "application/json;charset=UTF-8"

// ParseFormat reads the component of a path that names the form.
func ParseFormat(s string) (Format, error) {
	switch f := Format(s); f {
	case JSON, ExtJS:
		return f, nil
	}
	return "", rest.Errorf(http.StatusBadRequest, "unsupported output format %.40q", s)
}

// write answers with data. A list is written item by item: its text is never in
// memory as a whole.
func (f Format) write(w http.ResponseWriter, data any, extra map[string]any) error {
	b := f.begin(w)
	if err := writeValue(b, data); err != nil {
		return err
	}
	return f.end(b, extra)
}

// writeList answers with what list yields; nothing is written before the first
// item, or the end, so that an error can be answered.
func (f Format) writeList(w http.ResponseWriter, r *Request, list func(context.Context, *Request, func(any) error) error) error {
	var b *bufio.Writer
	next := byte('[')
	begin := func() {
		if b == nil {
			b = f.begin(w)
		}
		b.WriteByte(next)
		next = ','
	}
	err := list(r.HTTP.Context(), r, func(item any) error {
		begin()
		return writeJSON(b, item)
	})
	if err != nil {
		return err
	}
	if b == nil {
		begin()
	}
	b.WriteByte(']')
	return f.end(b, r.extra)
}

// begin writes up to the value of data. Errors of the writer show in end.
func (f Format) begin(w http.ResponseWriter) *bufio.Writer {
	w.Header().Set("Content-Type", Media)
	b := bufio.NewWriterSize(w, 32<<10)
	b.WriteString(`{"data":`)
	return b
}

// end writes what is beside the data.
func (f Format) end(b *bufio.Writer, extra map[string]any) error {
	if f == ExtJS {
		extra = maps.Clone(extra)
		if extra == nil {
			extra = map[string]any{}
		}
		extra["success"], extra["status"] = true, http.StatusOK
	}
	for _, name := range slices.Sorted(maps.Keys(extra)) {
		fmt.Fprintf(b, ",%q:", name)
		if err := writeJSON(b, extra[name]); err != nil {
			return err
		}
	}
	b.WriteByte('}')
	return b.Flush()
}

func writeValue(w *bufio.Writer, data any) error {
	v := reflect.ValueOf(data)
	if v.Kind() != reflect.Slice || v.Type().Elem().Kind() == reflect.Uint8 {
		return writeJSON(w, data)
	}
	w.WriteByte('[')
	for i := range v.Len() {
		if i > 0 {
			w.WriteByte(',')
		}
		if err := writeJSON(w, v.Index(i).Interface()); err != nil {
			return err
		}
	}
	return w.WriteByte(']')
}

// Marshal is json.Marshal without the escapes for HTML.
func Marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

func writeJSON(w io.Writer, v any) error {
	b, err := Marshal(v)
	if err == nil {
		_, err = w.Write(b)
	}
	return err
}

// Fail answers with an error, of which nothing has been written yet.
func (f Format) Fail(w http.ResponseWriter, err error) {
	err = ToWire(err)
	w.Header().Del("Content-Length")
	if f != ExtJS {
		rest.Fail(w, err)
		return
	}
	reasons := map[string]string{}
	if p, ok := errors.AsType[*ParameterError](err); ok {
		reasons = p.Reasons
	}
	w.Header().Set("Content-Type", Media)
	w.WriteHeader(http.StatusOK)
	_ = writeJSON(w, map[string]any{
		"success": false, "status": rest.StatusOf(err), "message": err.Error(), "errors": reasons,
	})
}

// ToWire gives an error its status, and a kind that our client knows.
func ToWire(err error) error {
	if _, ok := errors.AsType[*access.DeniedError](err); ok {
		return repoerr.WithStatus(err, http.StatusForbidden)
	}
	return repoerr.ToWire(err)
}
