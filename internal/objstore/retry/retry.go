// Package retry is an object store whose calls are tried again when nobody
// knows what became of them, or when the store is busy.
//
// # What a repetition means
//
// Get, Stat, List, Delete and Retain can be repeated. A Put under a condition
// cannot simply be: when the answer to one that succeeded was lost, the next try
// is told that the condition does not hold. So after a try of unknown outcome,
// ErrPrecondition makes this package read what is there: if it is the very
// body, the Put succeeded. Two writers that put the same body under one key
// cannot be told apart, and both succeed; who must be told apart puts something
// of its own into the body.
//
// A Get is repeated until it is open. What breaks while it is read is the
// reader's affair: objstore/resume reads on.
//
// # Limits
//
// Waits double from Options.First with jitter up to Options.Longest; the store's
// own word, when it is longer, counts. After Options.Tries the last error is
// told, with the number of tries.
package retry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/holdfast-backup/holdfast/internal/cancel"
	"github.com/holdfast-backup/holdfast/internal/objstore"
)

// Options bound what is tried.
type Options struct {
	Tries          int           // at least 1
	First, Longest time.Duration // waits
	// Jitter picks a time up to the one it is given; nil: by chance. Simulations
	// choose it by their seed.
	Jitter func(time.Duration) time.Duration
}

// Usual is what commands use: about a minute of trouble is ridden out.
var Usual = Options{Tries: 8, First: 200 * time.Millisecond, Longest: 20 * time.Second}

// Store tries again.
type Store struct {
	objstore.Store
	opt     Options
	retries atomic.Int64
}

// New returns s with another face: calls are tried again.
func New(s objstore.Store, o Options) *Store {
	if o.Jitter == nil {
		o.Jitter = func(d time.Duration) time.Duration { return rand.N(d + 1) }
	}
	return &Store{Store: s, opt: o}
}

// Retries is how many calls were repeated, each repetition counted.
func (s *Store) Retries() int64 { return s.retries.Load() }

// lasting reports whether an error is an answer that another try does not
// change.
func lasting(err error) bool {
	for _, kind := range []error{
		objstore.ErrNotFound, objstore.ErrPrecondition, objstore.ErrDenied, objstore.ErrBucket, objstore.ErrKey, objstore.ErrTooMany, objstore.ErrClock,
		objstore.ErrUntrusted,
		context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// busy reports whether an error says that nothing was done.
func busy(err error) bool {
	_, ok := errors.AsType[*objstore.BusyError](err)
	return ok
}

// do calls f until it gives an answer.
func (s *Store) do(ctx context.Context, f func() error) error {
	wait := s.opt.First
	for try := 1; ; try++ {
		err := f()
		switch {
		case err == nil || lasting(err) || ctx.Err() != nil:
			return err
		case try >= s.opt.Tries:
			if try == 1 {
				return err
			}
			return fmt.Errorf("tried %d times: %w", try, err)
		}
		d := wait/2 + s.opt.Jitter(wait/2)
		if b, ok := errors.AsType[*objstore.BusyError](err); ok {
			d = max(d, b.After)
		}
		if stop := cancel.Sleep(ctx, d); stop != nil {
			return errors.Join(stop, err)
		}
		s.retries.Add(1)
		wait = min(2*wait, s.opt.Longest)
	}
}

// Get implements objstore.Store.
func (s *Store) Get(ctx context.Context, key string, off, n int64) (o objstore.Object, err error) {
	err = s.do(ctx, func() error {
		o, err = s.Store.Get(ctx, key, off, n)
		return err
	})
	return o, err
}

// Put implements objstore.Store.
func (s *Store) Put(ctx context.Context, key string, body objstore.Body, o objstore.PutOptions) (i objstore.Info, err error) {
	unknown := false // an earlier try may have succeeded
	err = s.do(ctx, func() error {
		i, err = s.Store.Put(ctx, key, body, o)
		if unknown && errors.Is(err, objstore.ErrPrecondition) {
			there, same, serr := s.same(ctx, key, body)
			switch {
			case serr != nil && !errors.Is(serr, objstore.ErrNotFound):
				return serr
			case same:
				i, err = there, nil
			}
		}
		unknown = unknown || err != nil && !lasting(err) && !busy(err)
		return err
	})
	return i, err
}

// same reports whether an object has this very body.
func (s *Store) same(ctx context.Context, key string, body objstore.Body) (objstore.Info, bool, error) {
	o, err := s.Store.Get(ctx, key, 0, -1)
	if err != nil {
		return objstore.Info{}, false, err
	}
	defer func() { _ = o.Close() }() // it was only read
	if o.Size != body.Size() {
		return o.Info, false, nil
	}
	theirs, ours := make([]byte, 64<<10), make([]byte, 64<<10)
	for off := int64(0); off < o.Size; {
		n := min(int64(len(ours)), o.Size-off)
		if _, err := io.ReadFull(o, theirs[:n]); err != nil {
			return objstore.Info{}, false, fmt.Errorf("read object %s: %w", key, err)
		}
		if _, err := body.ReadAt(ours[:n], off); err != nil && !errors.Is(err, io.EOF) {
			return objstore.Info{}, false, err
		}
		if !bytes.Equal(theirs[:n], ours[:n]) {
			return o.Info, false, nil
		}
		off += n
	}
	return o.Info, true, nil
}

// Stat implements objstore.Store.
func (s *Store) Stat(ctx context.Context, key string) (i objstore.Info, err error) {
	err = s.do(ctx, func() error {
		i, err = s.Store.Stat(ctx, key)
		return err
	})
	return i, err
}

// List implements objstore.Store.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) (list []objstore.Info, more bool, err error) {
	err = s.do(ctx, func() error {
		list, more, err = s.Store.List(ctx, prefix, after, limit)
		return err
	})
	return list, more, err
}

// Delete implements objstore.Store. Only the keys that were left are tried
// again.
func (s *Store) Delete(ctx context.Context, keys []string) error {
	return s.do(ctx, func() error {
		err := s.Store.Delete(ctx, keys)
		if left, ok := errors.AsType[objstore.DeleteError](err); ok {
			keys = nil
			for k := range left {
				keys = append(keys, k)
			}
		}
		return err
	})
}

// Retain implements objstore.Store.
func (s *Store) Retain(ctx context.Context, key string, r objstore.Retention) error {
	return s.do(ctx, func() error { return s.Store.Retain(ctx, key, r) })
}
