// Package cache keeps objects that were read in a directory of bounded size, for
// those who read them again: whole objects, and ranges of large ones.
//
// Only objects that are never replaced may be kept (Options.Keep says which those
// are), so nothing is asked before what was kept is used. An object that was removed
// may be read for longer from here. Whether one is there, [Store.Stat] asks the store.
//
// # Layout
//
//	DIR/SCOPE/ab/cdef…/OFF-N   N bytes of an object from OFF; the directories are
//	                           32 hex digits of the SHA-256 of its key
//	DIR/tmp/…                  what is being read now
//
// A file is the data, 8 bytes of the SHA-256 of each 64 KiB of it, a head in JSON
// (key, size, tag and time of the object, and the range), the head's length in four
// bytes, 16 bytes of the SHA-256 of sums and head, and "HFCACHE1". Integers are
// little-endian. It is written under tmp and renamed when it is whole, and never
// changed but for its time of modification, which says when it was last used.
//
// # Failures
//
// A cache makes reading faster or leaves it as it is. What cannot be read or is not
// what its sums say is removed and fetched from the store, in the middle of an object
// if need be. What cannot be written is not kept; Options.Trouble hears of that once.
// Several processes may use one directory, and may be killed at any time.
//
// # Bounds
//
// When the files have more than Options.Size bytes the ones used longest ago are
// removed until a tenth is free. A process knows of its own files at once and of
// others' after it added an eighth of that size, so the bound may be exceeded by an
// eighth for each process. Memory: 64 KiB for an object that is read, and 8 bytes
// for each 64 KiB of one that is kept.
package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/holdfast-backup/holdfast/internal/objstore"
)

// Options say what is kept.
type Options struct {
	Size    int64                 // of the directory, bytes; at least 1
	Scope   string                // a name for what the keys belong to: the same keys of another are others
	Keep    func(key string) bool // which objects never change; nil: all
	Largest int64                 // bytes of a range that is kept; 0: 64 MiB, at most an eighth of Size
	Trouble func(error)           // hears of the first thing that went wrong; nil: nobody does
}

const usualLargest = 64 << 20

// Store keeps objects of another store.
type Store struct {
	objstore.Store
	dir, scope string
	opt        Options
	trouble    sync.Once
	space      space

	hits, hitBytes atomic.Int64
}

var _ objstore.Store = (*Store)(nil)

// New returns s with a cache in a directory, which is made when something is kept.
func New(s objstore.Store, dir string, o Options) *Store {
	if o.Keep == nil {
		o.Keep = func(string) bool { return true }
	}
	if o.Largest == 0 {
		o.Largest = usualLargest
	}
	o.Largest = min(o.Largest, o.Size/8)
	return &Store{Store: s, dir: dir, scope: filepath.Join(dir, sum(o.Scope)), opt: o, space: space{limit: o.Size}}
}

// Hits are how many reads, and bytes of them, were answered from here.
func (s *Store) Hits() (n, bytes int64) { return s.hits.Load(), s.hitBytes.Load() }

func sum(text string) string {
	h := sha256.Sum256([]byte(text))
	return hex.EncodeToString(h[:16])
}

// at is the directory of an object.
func (s *Store) at(key string) string {
	name := sum(key)
	return filepath.Join(s.scope, name[:2], name[2:])
}

func (s *Store) failed(err error) {
	if err != nil && s.opt.Trouble != nil {
		s.trouble.Do(func() { s.opt.Trouble(err) })
	}
}

// Get implements objstore.Store.
func (s *Store) Get(ctx context.Context, key string, off, n int64) (objstore.Object, error) {
	if off < 0 || n == 0 || !s.opt.Keep(key) {
		return s.Store.Get(ctx, key, off, n)
	}
	if err := context.Cause(ctx); err != nil {
		return objstore.Object{}, err
	}
	if h := s.find(key, off, n); h != nil {
		h.ctx = ctx
		s.hits.Add(1)
		return objstore.Object{Info: h.head.info(), ReadCloser: h}, nil
	}
	o, err := s.Store.Get(ctx, key, off, n)
	if err != nil {
		return o, err
	}
	got := o.Size - off
	if n > 0 {
		got = min(got, n)
	}
	if got <= s.opt.Largest {
		o.ReadCloser = s.fill(o, off, got)
	}
	return o, nil
}

// Put implements objstore.Store.
func (s *Store) Put(ctx context.Context, key string, body objstore.Body, o objstore.PutOptions) (objstore.Info, error) {
	i, err := s.Store.Put(ctx, key, body, o)
	if !o.If.Absent() { // who asks for nothing to be there replaces nothing
		s.forget(key)
	}
	return i, err
}

// Delete implements objstore.Store.
func (s *Store) Delete(ctx context.Context, keys []string) error {
	err := s.Store.Delete(ctx, keys)
	for _, key := range keys {
		s.forget(key)
	}
	return err
}

// forget removes what is kept of an object. What cannot be removed is of an object
// that is gone.
func (s *Store) forget(key string) { _ = os.RemoveAll(s.at(key)) }
