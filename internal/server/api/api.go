// Package api is what a table of calls is made of, and everything that follows
// from the table alone: which call a request means, its parameters as typed
// values, who may make it, the form of answers and errors, and the description of
// all calls as an OpenAPI document.
//
// # Requests
//
//	/api2/{json|extjs}/PATH
//
// How a path is read, where parameters come from and what answers and errors look
// like is in internal/proto/rest. Path and query have at most [MaxTarget] bytes,
// else the answer is 414. Parameters in the path count before others. Names that
// the call does not know are refused, except where it says otherwise: what is
// mistyped must not be taken for what was left out. Behind the name of a list "[]"
// does not count.
//
// # Answers
//
// Next to "data" some calls set more. With extjs everything is 200, with "success",
// "status", "message" and "errors".
//
//	400  every error that has no status of its own
//	401  nobody is logged in, or the token for changes is missing or wrong
//	403  the privilege is missing
//	404  there is no such path or method
//	414  path and query are too long
//	429  too much at a time, see Retry-After
//	503  the server is about to stop
//
// # Source
//
// proxmox-rs: proxmox-rest-server/src/{rest,formatter}.rs, proxmox-schema.
package api

import (
	"context"
	"fmt"
	"net/http"
	"reflect"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/format/names"
)

// MaxTarget bounds path and query of a request, in bytes. Notes travel in the query.
const MaxTarget = 24 << 10

// Call is one row of the table.
type Call struct {
	Method string
	Path   string // "/admin/datastore/{store}/snapshots", below /api2/json
	Doc    string // what it does, one sentence
	Guard  Guard
	Params []AnyParam // those of the path too
	// Others says that parameters that are not in the table are ignored.
	Others bool
	Do     Handler
}

// Name is how people call it: "GET /version".
func (c *Call) Name() string { return c.Method + " " + c.Path }

// Request is one call being made.
type Request struct {
	HTTP   *http.Request
	Call   *Call
	Caller names.AuthID // the zero value where nobody need be logged in
	Policy *access.Policy
	Peer   string      // address of the client, without its port
	Header http.Header // of the answer

	values map[string]any
	extra  map[string]any
}

// Set puts a value beside "data" in the answer.
func (r *Request) Set(name string, value any) {
	if r.extra == nil {
		r.extra = map[string]any{}
	}
	r.extra[name] = value
}

// Handler is what a call does.
type Handler struct {
	result reflect.Type // of data; nil: none
	do     func(context.Context, *Request) (any, error)
	list   func(context.Context, *Request, func(any) error) error
	serve  func(http.ResponseWriter, *Request) error
	media  string // of what serve writes
	body   bool   // the request's body is data, not parameters
}

// Data is a call that answers with a value.
func Data[T any](f func(context.Context, *Request) (T, error)) Handler {
	return Handler{
		result: reflect.TypeFor[T](),
		do:     func(ctx context.Context, r *Request) (any, error) { return f(ctx, r) },
	}
}

// Each is a call that answers with a list of any length, item by item. Errors are
// those of a Stream.
func Each[T any](f func(ctx context.Context, r *Request, yield func(T) error) error) Handler {
	return Handler{
		result: reflect.TypeFor[[]T](),
		list: func(ctx context.Context, r *Request, yield func(any) error) error {
			return f(ctx, r, func(item T) error { return yield(item) })
		},
	}
}

// Nothing is a call that answers with null.
func Nothing(f func(context.Context, *Request) error) Handler {
	return Handler{do: func(ctx context.Context, r *Request) (any, error) { return nil, f(ctx, r) }}
}

// Stream is a call that writes its answer itself, of a media type. Until its first
// byte is written it may return an error instead; after that, an error breaks the
// connection off, so that nobody takes half an answer for a whole one.
func Stream(media string, f func(http.ResponseWriter, *Request) error) Handler {
	return Handler{serve: f, media: media}
}

// WithBody makes the body of the request data for the handler to read; parameters
// come from the query.
func (h Handler) WithBody() Handler {
	h.body = true
	return h
}

// Returning tells the description what a Stream answers with.
func Returning[T any](h Handler) Handler {
	h.result = reflect.TypeFor[T]()
	return h
}

// HasBody reports whether the request's body is data.
func (h Handler) HasBody() bool { return h.body }

// Table is all calls of a server.
type Table struct {
	calls []*Call
	root  node
}

// NewTable makes a table of calls. It panics for one that is written wrongly.
func NewTable(calls ...[]Call) *Table {
	t := new(Table)
	for _, group := range calls {
		for i := range group {
			c := &group[i]
			t.calls = append(t.calls, c)
			t.root.add(c)
		}
	}
	return t
}

// Calls lists the calls in the order of the table.
func (t *Table) Calls() []*Call { return t.calls }

// Run makes a call for a request whose parameters have been read. Before, the
// guard is asked.
func (c *Call) Run(w http.ResponseWriter, r *Request, f Format) error {
	if err := c.Guard.Allow(r); err != nil {
		return err
	}
	if c.Do.serve != nil {
		return c.Do.serve(w, r)
	}
	if c.Do.list != nil {
		return f.writeList(w, r, c.Do.list)
	}
	v, err := c.Do.do(r.HTTP.Context(), r)
	if err != nil {
		return err
	}
	return f.write(w, v, r.extra)
}

func (c *Call) broken(format string, args ...any) {
	panic(fmt.Sprintf("api: %s: %s", c.Name(), fmt.Sprintf(format, args...)))
}
