// Package rest is how calls of a backup server's API carry parameters, results
// and errors: in HTTP/1.1 below /api2/json, and inside of upgraded connections.
//
// # Parameters
//
//   - Content-Type application/json: the body is an object; the query is not
//     looked at; an empty body is {}.
//   - application/x-www-form-urlencoded, or no Content-Type: the body is a form,
//     and the query counts too.
//   - Calls with a raw body (chunks, blobs) take parameters from the query alone.
//
// Values are texts, whichever way they come: clients write numbers and booleans
// as JSON values or as words. A name that comes more than once, or a JSON array,
// is a list. A JSON null and the form key "_dc" count as absent. Unknown names
// are ignored. A body of parameters has less than 512 KiB.
//
// # Results and errors
//
//	200  {"data": VALUE}, Content-Type application/json;charset=UTF-8
//	4xx  the message as plain text, though the Content-Type is the same
//
// The status is 400 unless said otherwise. A message is never shorter than eight
// bytes: there is a client that looks at so many. Beside the message our server
// sends the header Holdfast-Error with the kind of the error as a word, so that
// our client need not guess from a sentence; other clients ignore it.
//
// # Source
//
// proxmox-rs: proxmox-rest-server/src/{rest,formatter}.rs,
// proxmox-schema/src/schema.rs.
package rest

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// KindHeader carries the kind of an error.
const KindHeader = "Holdfast-Error"

const contentType = "application/json;charset=UTF-8"

// Error is a refusal: made by a server, or read by a client.
type Error struct {
	Status int
	Kind   string // a word, or ""
	Text   string
	Err    error // what is behind it, on the server's side; may be nil
}

func (e *Error) Error() string { return e.Text }
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes a refusal.
func Errorf(status int, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Error{Status: status, Text: err.Error(), Err: errors.Unwrap(err)}
}

// StatusOf returns the status with which an error is answered.
func StatusOf(err error) int {
	if e, ok := errors.AsType[*Error](err); ok && e.Status != 0 {
		return e.Status
	}
	return http.StatusBadRequest
}

// Path returns the components of a request's path, decoded one by one. Empty
// ones are left out, because there are clients that double slashes. Components
// that begin with a dot are refused.
func Path(r *http.Request) ([]string, error) {
	var parts []string
	for raw := range strings.SplitSeq(r.URL.EscapedPath(), "/") {
		if raw == "" {
			continue
		}
		part, err := url.PathUnescape(raw)
		if err != nil {
			return nil, Errorf(http.StatusBadRequest, "invalid path: %w", err)
		}
		if strings.HasPrefix(part, ".") {
			return nil, Errorf(http.StatusBadRequest, "invalid path: component %q begins with a dot", part)
		}
		parts = append(parts, part)
	}
	return parts, nil
}
