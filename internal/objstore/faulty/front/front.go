// Package front stands before a server of HTTP that is an engine of object stores,
// and makes the faults of package faulty where a real client meets them: answers of
// 503, connections that break before or after the request was done, requests that
// arrive twice, bodies shorter than their length, listings from before. It serves
// tests of objstore/s3 and what stands on it.
package front

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/cancel"
	"github.com/holdfast-backup/holdfast/internal/objstore/faulty"
)

// Front is a server with faults.
type Front struct {
	next http.Handler
	*faulty.Dice

	mu    sync.Mutex
	lists map[string][][]byte // the last answers to each listing, oldest first
}

// New returns a server with the faults of a plan.
func New(next http.Handler, seed uint64, p faulty.Plan) *Front {
	return &Front{next: next, Dice: faulty.NewDice(seed, p), lists: map[string][][]byte{}}
}

const slowDown = `<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>`

// ServeHTTP implements http.Handler.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	ctx := r.Context()
	fate := f.Call(r.Method != http.MethodGet && r.Method != http.MethodHead)
	if err := cancel.Sleep(ctx, fate.Before); err != nil {
		panic(http.ErrAbortHandler)
	}
	if fate.Late != nil {
		fate.Late(context.WithoutCancel(ctx))
	}
	switch {
	case fate.Busy:
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, slowDown)
		return
	case fate.Lost:
		panic(http.ErrAbortHandler) // closes the connection
	}
	do := func(ctx context.Context) *httptest.ResponseRecorder {
		q := r.Clone(ctx)
		q.Body = io.NopCloser(bytes.NewReader(body))
		a := httptest.NewRecorder()
		f.next.ServeHTTP(a, q)
		return a
	}
	a := do(ctx)
	if fate.Twice {
		f.Later(func(ctx context.Context) { do(ctx) })
	}
	if err := cancel.Sleep(ctx, fate.After); err != nil && fate.After > 0 || fate.Mute {
		panic(http.ErrAbortHandler)
	}
	answer := a.Body.Bytes()
	if r.Method == http.MethodGet && a.Code == http.StatusOK && r.URL.Query().Has("list-type") {
		answer = f.asBefore(r.URL.String(), answer)
	}
	f.send(w, r, a, answer)
}

// send gives the answer, or a part of it and the end of the connection.
func (f *Front) send(w http.ResponseWriter, r *http.Request, a *httptest.ResponseRecorder, body []byte) {
	for name, values := range a.Header() {
		w.Header()[name] = values
	}
	if r.Method != http.MethodGet {
		w.WriteHeader(a.Code)
		_, _ = w.Write(body)
		return
	}
	left, ends := f.Cut(int64(len(body)))
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(a.Code)
	if !ends {
		_, _ = w.Write(body)
		return
	}
	_, _ = w.Write(body[:left])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// asBefore keeps the answer to a listing, and gives it or one from before.
func (f *Front) asBefore(url string, now []byte) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	known := f.lists[url]
	behind := f.Stale(len(known))
	known = append(known, now)
	f.lists[url] = known[max(len(known)-f.Lag(), 0):]
	return known[len(known)-1-behind]
}
