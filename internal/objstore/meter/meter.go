// Package meter counts what is asked of an object store, and estimates what
// that costs.
//
// A meter belongs right above the store that speaks to the engine, below
// objstore/retry: then a call that is tried three times counts three times, as it
// does on the provider's bill. What a decorator above answers by itself, such as
// objstore/cache, does not count. Answers like [objstore.ErrNotFound] are no
// failures.
//
// Bytes are those of objects: of bodies that were given to Put, and those read
// from a Get. Headers, listings and other small answers are not among them.
package meter

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	"github.com/holdfast-backup/holdfast/internal/objstore"
)

// Kind is what is asked for.
type Kind int

// The kinds of requests.
const (
	Get Kind = iota
	Put
	Stat
	List
	Delete
	Retain
	kinds
)

func (k Kind) String() string {
	return [kinds]string{"get", "put", "stat", "list", "delete", "retain"}[k]
}

// Counts are what happened so far.
type Counts struct {
	Requests [kinds]int64 // by Kind
	Up, Down int64        // bytes of objects
	Busy     int64        // answers that asked for less or later
	Failed   int64        // requests of which nobody knows what became of them
}

// Total is the number of requests.
func (c Counts) Total() (n int64) {
	for _, r := range c.Requests {
		n += r
	}
	return n
}

// Since is what was added after an earlier count.
func (c Counts) Since(before Counts) Counts { return c.add(before, -1) }

// Plus is both together.
func (c Counts) Plus(o Counts) Counts { return c.add(o, 1) }

func (c Counts) add(o Counts, sign int64) Counts {
	for k := range c.Requests {
		c.Requests[k] += sign * o.Requests[k]
	}
	c.Up += sign * o.Up
	c.Down += sign * o.Down
	c.Busy += sign * o.Busy
	c.Failed += sign * o.Failed
	return c
}

// Store counts the calls of another store.
type Store struct {
	next     objstore.Store
	requests [kinds]atomic.Int64
	up, down atomic.Int64
	busy     atomic.Int64
	failed   atomic.Int64
}

var _ objstore.Store = (*Store)(nil)

// New returns s with its calls counted.
func New(s objstore.Store) *Store { return &Store{next: s} }

// Counts is what happened so far. Calls that are on their way may be counted in
// part.
func (s *Store) Counts() Counts {
	c := Counts{Up: s.up.Load(), Down: s.down.Load(), Busy: s.busy.Load(), Failed: s.failed.Load()}
	for k := range c.Requests {
		c.Requests[k] = s.requests[k].Load()
	}
	return c
}

// asked counts a request by how it ended.
func (s *Store) asked(k Kind, err error) {
	s.requests[k].Add(1)
	_, busy := errors.AsType[*objstore.BusyError](err)
	switch {
	case err == nil || answer(err):
	case busy:
		s.busy.Add(1)
	default:
		s.failed.Add(1)
	}
}

// answer reports whether an error is what the store has to say.
func answer(err error) bool {
	for _, kind := range []error{objstore.ErrNotFound, objstore.ErrPrecondition, objstore.ErrDenied, objstore.ErrBucket, objstore.ErrClock} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// refused reports whether no request was made for want of sense.
func refused(err error) bool {
	return errors.Is(err, objstore.ErrKey) || errors.Is(err, objstore.ErrTooMany)
}

// Location is that of the store.
func (s *Store) Location() string { return s.next.Location() }

// Get implements objstore.Store.
func (s *Store) Get(ctx context.Context, key string, off, n int64) (objstore.Object, error) {
	o, err := s.next.Get(ctx, key, off, n)
	if refused(err) {
		return o, err
	}
	s.asked(Get, err)
	if err == nil {
		o.ReadCloser = &counted{ReadCloser: o.ReadCloser, s: s}
	}
	return o, err
}

// counted counts what is read of an object.
type counted struct {
	io.ReadCloser
	s *Store
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.s.down.Add(int64(n))
	return n, err
}

// Put implements objstore.Store.
func (s *Store) Put(ctx context.Context, key string, body objstore.Body, o objstore.PutOptions) (objstore.Info, error) {
	i, err := s.next.Put(ctx, key, body, o)
	if !refused(err) {
		s.asked(Put, err)
		s.up.Add(body.Size())
	}
	return i, err
}

// Stat implements objstore.Store.
func (s *Store) Stat(ctx context.Context, key string) (objstore.Info, error) {
	i, err := s.next.Stat(ctx, key)
	if !refused(err) {
		s.asked(Stat, err)
	}
	return i, err
}

// List implements objstore.Store.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) ([]objstore.Info, bool, error) {
	list, more, err := s.next.List(ctx, prefix, after, limit)
	s.asked(List, err)
	return list, more, err
}

// Delete implements objstore.Store.
func (s *Store) Delete(ctx context.Context, keys []string) error {
	err := s.next.Delete(ctx, keys)
	if !refused(err) {
		s.asked(Delete, err)
	}
	return err
}

// Retain implements objstore.Store.
func (s *Store) Retain(ctx context.Context, key string, r objstore.Retention) error {
	err := s.next.Retain(ctx, key, r)
	if !refused(err) {
		s.asked(Retain, err)
	}
	return err
}
