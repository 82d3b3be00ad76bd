// Package limit asks of an object store no more than it can do, and of the line
// no more than one may take.
//
// # Requests
//
// [Store] lets a number of requests be on their way at once and holds back the
// others, first come, first served. The number adapts: it grows by one for each
// round of answers, up to Options.Most; when the store says that it is busy it is
// halved, once for all requests that were on their way at that moment, down to
// one. So many clients of one store find a share for each, as TCP's connections
// do.
//
// A Get counts until its answer begins. While its body is read it does not, so
// that who reads several objects at once never waits for himself.
//
// # Bytes
//
// [Transport] holds the bodies of requests and answers to rates, where they pass
// the wire: evenly, however large the objects are.
package limit

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/objstore"
)

// Options bound what is on its way.
type Options struct {
	First, Most int // requests at once, at the start and ever; at least 1
}

// Usual is what commands use.
var Usual = Options{First: 64, Most: 128}

// Store holds requests back.
type Store struct {
	objstore.Store
	most float64

	mu      sync.Mutex
	window  float64 // how many may be on their way
	flying  int
	epoch   int             // counts the halvings
	waiting []chan struct{} // closed when it is one's turn
}

var _ objstore.Store = (*Store)(nil)

// New returns s with a bounded number of requests at once.
func New(s objstore.Store, o Options) *Store {
	most := max(o.Most, 1)
	return &Store{Store: s, most: float64(most), window: float64(min(max(o.First, 1), most))}
}

// Window is how many requests may be on their way now.
func (s *Store) Window() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int(s.window)
}

// ask makes a request when it is its turn.
func (s *Store) ask(ctx context.Context, f func() error) error {
	epoch, err := s.enter(ctx)
	if err != nil {
		return err
	}
	err = f()
	s.leave(epoch, err)
	return err
}

// enter waits for one's turn. The epoch is when it came.
func (s *Store) enter(ctx context.Context) (epoch int, err error) {
	s.mu.Lock()
	turn := make(chan struct{})
	s.waiting = append(s.waiting, turn)
	s.next()
	s.mu.Unlock()
	select {
	case <-turn:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		return s.epoch, nil
	}
	if i := slices.Index(s.waiting, turn); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
	} else { // it came meanwhile: somebody else may have it
		s.flying--
		s.next()
	}
	return 0, err
}

// leave learns from an answer and makes room.
func (s *Store) leave(epoch int, err error) {
	_, busy := errors.AsType[*objstore.BusyError](err)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case busy && epoch == s.epoch:
		s.window = max(s.window/2, 1)
		s.epoch++
	case !busy && s.flying+1 >= int(s.window): // only who uses it all learns that it is enough
		s.window = min(s.window+1/s.window, s.most)
	}
	s.flying--
	s.next()
}

// next tells those whose turn it is.
func (s *Store) next() {
	for s.flying < int(s.window) && len(s.waiting) > 0 {
		s.flying++
		close(s.waiting[0])
		s.waiting = slices.Delete(s.waiting, 0, 1)
	}
}

// Get implements objstore.Store.
func (s *Store) Get(ctx context.Context, key string, off, n int64) (o objstore.Object, err error) {
	err = s.ask(ctx, func() error {
		o, err = s.Store.Get(ctx, key, off, n)
		return err
	})
	return o, err
}

// Put implements objstore.Store.
func (s *Store) Put(ctx context.Context, key string, body objstore.Body, o objstore.PutOptions) (i objstore.Info, err error) {
	err = s.ask(ctx, func() error {
		i, err = s.Store.Put(ctx, key, body, o)
		return err
	})
	return i, err
}

// Stat implements objstore.Store.
func (s *Store) Stat(ctx context.Context, key string) (i objstore.Info, err error) {
	err = s.ask(ctx, func() error {
		i, err = s.Store.Stat(ctx, key)
		return err
	})
	return i, err
}

// List implements objstore.Store.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) (list []objstore.Info, more bool, err error) {
	err = s.ask(ctx, func() error {
		list, more, err = s.Store.List(ctx, prefix, after, limit)
		return err
	})
	return list, more, err
}

// Delete implements objstore.Store.
func (s *Store) Delete(ctx context.Context, keys []string) error {
	return s.ask(ctx, func() error { return s.Store.Delete(ctx, keys) })
}

// Retain implements objstore.Store.
func (s *Store) Retain(ctx context.Context, key string, r objstore.Retention) error {
	return s.ask(ctx, func() error { return s.Store.Retain(ctx, key, r) })
}
