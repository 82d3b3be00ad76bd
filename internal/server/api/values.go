package api

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/proto/rest"
)

// Read reads the parameters of a request for its call. vars are those of the path.
func (r *Request) Read(vars map[string]string) error {
	read := rest.Read
	if r.Call.Do.body {
		read = rest.Query
	}
	given, err := read(r.HTTP)
	if err != nil {
		return err
	}
	wrong := &ParameterError{Reasons: map[string]string{}}
	r.values = map[string]any{}
	known := map[string]bool{}
	for _, p := range r.Call.Params {
		name := p.Spec().Name
		texts := given.Texts(name)
		known[name] = true
		if p.Spec().List {
			texts = append(texts, given.Texts(name+"[]")...)
			known[name+"[]"] = true
		}
		if v, ok := vars[name]; ok {
			texts = []string{v}
		}
		v, err := value(p, texts)
		if err != nil {
			wrong.Reasons[name] = err.Error()
		} else if v != nil {
			r.values[name] = v
		}
	}
	for _, name := range given.Names() {
		if !known[name] && !r.Call.Others {
			wrong.Reasons[name] = "the call has no such parameter"
		}
	}
	if len(wrong.Reasons) > 0 {
		return &rest.Error{Status: http.StatusBadRequest, Text: wrong.Error(), Err: wrong}
	}
	return nil
}

// value makes the value of a parameter; nil when it was left out and may be.
func value(p AnyParam, texts []string) (any, error) {
	if len(texts) > 0 {
		return p.parse(texts)
	}
	if v, ok := p.fallback(); ok {
		return v, nil
	}
	if !p.Spec().Optional {
		return nil, fmt.Errorf("parameter is missing and it is not optional")
	}
	return nil, nil
}

// ParameterError says what is wrong with the parameters of a request.
type ParameterError struct {
	Reasons map[string]string // by name
}

func (e *ParameterError) Error() string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(e.Reasons)) {
		list = append(list, fmt.Sprintf("'%.80s': %s", name, e.Reasons[name]))
	}
	return "parameter verification failed - " + strings.Join(list, "; ")
}
