package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// maxBody bounds a body of parameters.
const maxBody = 512 << 10

// Params are the parameters of a call. Getters collect what is wrong, and Err
// tells it: a call reads all its parameters and then asks once.
type Params struct {
	values map[string][]string
	wrong  []string
}

// Query takes the parameters from the query alone.
func Query(r *http.Request) (*Params, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, Errorf(http.StatusBadRequest, "query: %w", err)
	}
	return Values(q), nil
}

// Values takes the parameters from a parsed form.
func Values(q url.Values) *Params {
	delete(q, "_dc")
	return &Params{values: q}
}

// Read takes the parameters from query and body.
func Read(r *http.Request) (*Params, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return nil, Errorf(http.StatusBadRequest, "read the request: %w", err)
	}
	if len(body) > maxBody {
		return nil, Errorf(http.StatusBadRequest, "request body too large: more than %d bytes", maxBody)
	}
	p, err := Parse(r.URL.RawQuery, r.Header.Get("Content-Type"), body)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Parse takes the parameters from their texts.
func Parse(query, contentType string, body []byte) (*Params, error) {
	kind := contentType
	if contentType != "" {
		var err error
		if kind, _, err = mime.ParseMediaType(contentType); err != nil {
			return nil, Errorf(http.StatusBadRequest, "content type %q: %w", contentType, err)
		}
	}
	switch kind {
	case "application/json":
		return fromJSON(body)
	case "", "application/x-www-form-urlencoded":
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return nil, Errorf(http.StatusBadRequest, "form: %w", err)
		}
		q, err := url.ParseQuery(query)
		if err != nil {
			return nil, Errorf(http.StatusBadRequest, "query: %w", err)
		}
		for name, list := range q {
			form[name] = append(form[name], list...)
		}
		return Values(form), nil
	}
	return nil, Errorf(http.StatusBadRequest, "unsupported content type %q", contentType)
}

func fromJSON(body []byte) (*Params, error) {
	p := &Params{values: map[string][]string{}}
	if len(bytes.TrimSpace(body)) == 0 {
		return p, nil
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(body, &object); err != nil {
		return nil, Errorf(http.StatusBadRequest, "parameters are no JSON object: %w", err)
	}
	for name, raw := range object {
		list, err := texts(raw)
		if err != nil {
			return nil, Errorf(http.StatusBadRequest, "parameter '%s': %w", name, err)
		}
		if len(list) > 0 {
			p.values[name] = list
		}
	}
	return p, nil
}

// texts returns the text of a value, those of an array, or nil for null.
func texts(raw json.RawMessage) ([]string, error) {
	if raw[0] != '[' {
		s, ok, err := text(raw)
		if err != nil || !ok {
			return nil, err
		}
		return []string{s}, nil
	}
	var items []json.RawMessage
	if err := json.Unmarshal(raw, &items); err != nil {
		return nil, err
	}
	list := make([]string, len(items))
	for i, item := range items {
		s, ok, err := text(item)
		if err != nil || !ok {
			return nil, fmt.Errorf("item %d is no text, number or boolean", i)
		}
		list[i] = s
	}
	return list, nil
}

func text(raw json.RawMessage) (s string, ok bool, err error) {
	switch raw[0] {
	case '"':
		err := json.Unmarshal(raw, &s)
		return s, err == nil, err
	case '{', '[':
		return "", false, fmt.Errorf("want a text, number or boolean")
	case 'n':
		return "", false, nil
	}
	return string(raw), true, nil
}

// Err returns an error with status 400 if something was wrong.
func (p *Params) Err() error {
	if len(p.wrong) == 0 {
		return nil
	}
	return Errorf(http.StatusBadRequest, "parameter verification failed - %s", strings.Join(p.wrong, "; "))
}

// Wrong notes that a parameter is not as it should be.
func (p *Params) Wrong(name, format string, args ...any) {
	p.wrong = append(p.wrong, fmt.Sprintf("'%s': ", name)+fmt.Sprintf(format, args...))
}

// Has reports whether a parameter is there.
func (p *Params) Has(name string) bool { return len(p.values[name]) > 0 }

// one returns the text of a parameter that is no list.
func (p *Params) one(name string) (string, bool) {
	list := p.values[name]
	switch len(list) {
	case 0:
		return "", false
	case 1:
		return list[0], true
	}
	p.Wrong(name, "given %d times", len(list))
	return "", false
}

// Need returns a parameter that must be there.
func Need[T any](p *Params, name string, parse func(string) (T, error)) (v T) {
	if !p.Has(name) {
		p.Wrong(name, "parameter is missing and it is not optional")
		return v
	}
	return Get(p, name, v, parse)
}

// Get returns a parameter, or otherwise when it is not there.
func Get[T any](p *Params, name string, otherwise T, parse func(string) (T, error)) T {
	s, ok := p.one(name)
	if !ok {
		return otherwise
	}
	v, err := parse(s)
	if err != nil {
		p.Wrong(name, "%v", err)
		return otherwise
	}
	return v
}

// List returns all values of a parameter; none is an empty list.
func List[T any](p *Params, name string, parse func(string) (T, error)) []T {
	list := make([]T, 0, len(p.values[name]))
	for _, s := range p.values[name] {
		v, err := parse(s)
		if err != nil {
			p.Wrong(name, "%v", err)
			return nil
		}
		list = append(list, v)
	}
	return list
}

// Text takes any text.
func Text(s string) (string, error) { return s, nil }

// Int takes a decimal integer within bounds.
func Int(low, high int64) func(string) (int64, error) {
	return func(s string) (int64, error) {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%q is no integer", s)
		}
		if n < low || n > high {
			return 0, fmt.Errorf("value must be between %d and %d, is %d", low, high, n)
		}
		return n, nil
	}
}

// Bool takes the words for yes and no.
func Bool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "1", "on", "yes", "true":
		return true, nil
	case "0", "off", "no", "false":
		return false, nil
	}
	return false, fmt.Errorf("%q is no boolean", s)
}
