// Package faulty is an object store with faults: those that networks and
// engines are known for, by chance and repeatable by their seed. It serves tests
// and simulations; objstore/faulty/front does the same to a server of HTTP.
//
// # Faults
//
// A storm refuses a number of calls in a row with [*objstore.BusyError]. A call may
// get lost on its way there or on its way back: both are [ErrLine], and only in the
// latter case was anything done. A change may be delivered once more at some later
// time, as networks with proxies do; nobody hears what became of that. The body of a
// Get may end early with io.ErrUnexpectedEOF. Calls take their time, so that those
// of several callers overtake each other. A list may be stale: it lacks the last
// objects that were written and shows the last ones that were removed, which is more
// than package objstore allows; some engines do it all the same.
//
// With one caller at a time, the same seed makes the same faults.
package faulty

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/cancel"
	"github.com/holdfast-backup/holdfast/internal/objstore"
)

// ErrLine is wrapped by what a caller hears when a call or its answer got lost.
var ErrLine = errors.New("the connection broke")

// Store is an object store with faults. Callers that share it share its storms, and
// what its lists do not know.
type Store struct {
	next objstore.Store
	*Dice

	mu      sync.Mutex
	changes []change // the last Plan.Lag
}

var _ objstore.Store = (*Store)(nil)

// New returns s with the faults of a plan.
func New(s objstore.Store, seed uint64, p Plan) *Store {
	return &Store{next: s, Dice: NewDice(seed, p)}
}

// Location is that of the store.
func (s *Store) Location() string { return s.next.Location() }

// call does one call as it is decided. again is what may be delivered twice, nil for
// a call that changes nothing.
func (s *Store) call(ctx context.Context, f func() error, again func(context.Context)) error {
	fate := s.Call(again != nil)
	if err := cancel.Sleep(ctx, fate.Before); err != nil {
		return err
	}
	if fate.Late != nil {
		fate.Late(context.WithoutCancel(ctx))
	}
	switch {
	case fate.Busy:
		return &objstore.BusyError{Err: errors.New("too many requests")}
	case fate.Lost:
		return fmt.Errorf("%w before it was done", ErrLine)
	}
	err := f()
	if fate.Twice {
		s.Later(again)
	}
	if stop := cancel.Sleep(ctx, fate.After); stop != nil && fate.After > 0 {
		return stop
	}
	if fate.Mute {
		return fmt.Errorf("%w before it was answered", ErrLine)
	}
	return err
}

// Get implements objstore.Store.
func (s *Store) Get(ctx context.Context, key string, off, n int64) (o objstore.Object, err error) {
	open := false
	err = s.call(ctx, func() error {
		o, err = s.next.Get(ctx, key, off, n)
		open = err == nil
		return err
	}, nil)
	if err != nil {
		if open {
			_ = o.Close() // nobody gets it
		}
		return objstore.Object{}, err
	}
	size := o.Size - off
	if n >= 0 {
		size = min(size, n)
	}
	if left, ends := s.Cut(size); ends {
		o.ReadCloser = &cut{ReadCloser: o.ReadCloser, left: left}
	}
	return o, nil
}

// cut is a body that ends early.
type cut struct {
	io.ReadCloser
	left int64
}

func (c *cut) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := c.ReadCloser.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}

// Put implements objstore.Store.
func (s *Store) Put(ctx context.Context, key string, body objstore.Body, o objstore.PutOptions) (i objstore.Info, err error) {
	kept, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size())) // it may come after the caller is done
	if err != nil {
		return objstore.Info{}, err
	}
	put := func(ctx context.Context) (objstore.Info, error) {
		i, err := s.next.Put(ctx, key, bytes.NewReader(kept), o)
		if err == nil {
			s.changed(change{key: key, made: true})
		}
		return i, err
	}
	err = s.call(ctx, func() error {
		i, err = put(ctx)
		return err
	}, func(ctx context.Context) { _, _ = put(ctx) })
	if err != nil {
		return objstore.Info{}, err
	}
	return i, nil
}

// Stat implements objstore.Store.
func (s *Store) Stat(ctx context.Context, key string) (i objstore.Info, err error) {
	err = s.call(ctx, func() error {
		i, err = s.next.Stat(ctx, key)
		return err
	}, nil)
	return i, err
}

// Delete implements objstore.Store.
func (s *Store) Delete(ctx context.Context, keys []string) error {
	keys = append([]string(nil), keys...)
	remove := func(ctx context.Context) error {
		gone := s.about(ctx, keys)
		err := s.next.Delete(ctx, keys)
		if err == nil {
			s.changed(gone...)
		}
		return err
	}
	return s.call(ctx, func() error { return remove(ctx) }, func(ctx context.Context) { _ = remove(ctx) })
}

// Retain implements objstore.Store.
func (s *Store) Retain(ctx context.Context, key string, r objstore.Retention) error {
	retain := func(ctx context.Context) error { return s.next.Retain(ctx, key, r) }
	return s.call(ctx, func() error { return retain(ctx) }, func(ctx context.Context) { _ = retain(ctx) })
}
