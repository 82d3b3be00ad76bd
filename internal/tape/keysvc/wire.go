package keysvc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/tape"
)

// Socket is where the service manager listens for the service.
const Socket = "/run/holdfast/tape-key.sock"

const maxLine = 4096 // of a request or an answer

// request is what the client wants.
type request struct {
	Op          string                  `json:"op"`
	Fingerprint *chunkcrypt.Fingerprint `json:"fingerprint,omitempty"`
	MediaSet    *uuid.UUID              `json:"media-set,omitempty"`
}

const (
	opSet   = "set"
	opClear = "clear"
)

// ErrDenied is wrapped when the service does not serve this user.
var ErrDenied = errors.New("not allowed to have keys put into drives")

func setRequest(k tape.KeyOf) request {
	return request{Op: opSet, Fingerprint: &k.Fingerprint, MediaSet: &k.MediaSet}
}

// key is the key that a request names; nil to clear.
func (r request) key() (*tape.KeyOf, error) {
	switch {
	case r.Op == opClear && r.Fingerprint == nil && r.MediaSet == nil:
		return nil, nil
	case r.Op == opSet && r.Fingerprint != nil && r.MediaSet != nil:
		return &tape.KeyOf{Fingerprint: *r.Fingerprint, MediaSet: *r.MediaSet}, nil
	}
	return nil, fmt.Errorf("a request %q that is neither to set a key nor to clear it", r.Op)
}

// parseRequest decodes the line of a client.
func parseRequest(line []byte) (*tape.KeyOf, error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	var r request
	if err := d.Decode(&r); err != nil {
		return nil, fmt.Errorf("a request that cannot be read: %w", err)
	}
	return r.key()
}

// kinds are the errors that a client tells apart.
var kinds = []struct {
	name string
	err  error
}{
	{"not-found", repo.ErrNotFound},
	{"unsupported", tape.ErrUnsupported},
	{"denied", ErrDenied},
}

// answer is what the service says.
type answer struct {
	Err  *string `json:"Err,omitempty"`
	Kind string  `json:"kind,omitempty"`
}

// appendAnswer adds the line for an outcome.
func appendAnswer(b []byte, err error) []byte {
	if err == nil {
		return append(b, `{"Ok":null}`+"\n"...)
	}
	text := err.Error()
	text = text[:min(len(text), maxLine/8)] // a byte of text is up to 6 of JSON
	a := answer{Err: &text}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			a.Kind = k.name
		}
	}
	line, err := json.Marshal(a)
	if err != nil {
		panic("keysvc: " + err.Error()) // strings always are JSON
	}
	return append(append(b, line...), '\n')
}

// parseAnswer gives back what the service said; a line that is no answer is an
// error too.
func parseAnswer(line []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(line, &fields); err != nil {
		return fmt.Errorf("an answer that cannot be read: %w", err)
	}
	var a answer
	if err := json.Unmarshal(line, &a); err != nil {
		return fmt.Errorf("an answer that cannot be read: %w", err)
	}
	if a.Err == nil {
		if _, ok := fields["Ok"]; !ok {
			return errors.New("an answer that says nothing")
		}
		return nil
	}
	for _, k := range kinds {
		if a.Kind == k.name {
			return fmt.Errorf("%s (%w)", *a.Err, k.err)
		}
	}
	return errors.New(*a.Err)
}
