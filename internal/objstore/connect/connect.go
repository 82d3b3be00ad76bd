// Package connect is a bucket as commands use it: the layers above its engine in the
// order in which they belong.
//
//	cache    what was read is not asked for again
//	retry    calls are tried again
//	limit    as many at once as the engine can take
//	meter    what reaches the engine is counted
//	s3       the engine
//
// and bytes a second below all, where they pass the wire.
package connect

import (
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/cache"
	"github.com/holdfast-backup/holdfast/internal/objstore/limit"
	"github.com/holdfast-backup/holdfast/internal/objstore/meter"
	"github.com/holdfast-backup/holdfast/internal/objstore/retry"
	"github.com/holdfast-backup/holdfast/internal/objstore/s3"
	"github.com/holdfast-backup/holdfast/internal/throttle"
)

// Options are what an address does not say.
type Options struct {
	Keys     s3.Options
	Up, Down int64 // bytes a second; 0: no limit
	Requests int   // at once, at most; 0: as limit.Usual has it

	CacheDir  string // "": no cache
	CacheSize int64  // bytes
	Trouble   func(error)
}

// Store is an open bucket.
type Store struct {
	objstore.Store
	opt   Options
	s3    *s3.Store
	meter *meter.Store
	retry *retry.Store
	cache *cache.Store // nil: none
}

// Open returns a bucket. No request is made: whether it is there, the first use tells.
func Open(at s3.Address, o Options) (*Store, error) {
	if o.Keys.Transport == nil {
		t, err := s3.NewTransport(at)
		if err != nil {
			return nil, err
		}
		o.Keys.Transport = t
	}
	o.Keys.Transport = limit.Transport(o.Keys.Transport, throttle.New(o.Up), throttle.New(o.Down))
	engine, err := s3.Open(at, o.Keys)
	if err != nil {
		return nil, err
	}
	requests := limit.Usual
	if o.Requests > 0 {
		requests.Most = o.Requests
	}
	s := &Store{opt: o, s3: engine, meter: meter.New(engine)}
	s.retry = retry.New(limit.New(s.meter, requests), retry.Usual)
	s.Store = s.retry
	return s, nil
}

// Caching reports whether the options name a directory for a cache.
func (s *Store) Caching() bool { return s.opt.CacheDir != "" }

// Keep has objects that never change kept in the directory of the options, if they
// name one. The scope is what the keys belong to.
func (s *Store) Keep(scope string, which func(key string) bool) {
	if !s.Caching() {
		return
	}
	s.cache = cache.New(s.retry, s.opt.CacheDir, cache.Options{Size: s.opt.CacheSize, Scope: scope, Keep: which, Trouble: s.opt.Trouble})
	s.Store = s.cache
}

// Traffic is what was asked of the engine, and what was not.
type Traffic struct {
	meter.Counts
	Retries        int64 // calls that were tried again
	Hits, HitBytes int64 // reads that the cache answered
}

// Plus is both together.
func (t Traffic) Plus(o Traffic) Traffic {
	return Traffic{t.Counts.Plus(o.Counts), t.Retries + o.Retries, t.Hits + o.Hits, t.HitBytes + o.HitBytes}
}

// Traffic is what happened so far.
func (s *Store) Traffic() Traffic {
	t := Traffic{Counts: s.meter.Counts(), Retries: s.retry.Retries()}
	if s.cache != nil {
		t.Hits, t.HitBytes = s.cache.Hits()
	}
	return t
}

// Close lets go of connections.
func (s *Store) Close() error { return s.s3.Close() }
