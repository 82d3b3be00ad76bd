// Package mem is an object store in memory: the model that the others are
// held to, and the ground of simulations. It keeps what it is given until it is
// removed, has a clock of its own, and can lock objects.
package mem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/objstore"
)

// Store is an object store in memory. Make one with New.
type Store struct {
	now  func() time.Time
	lock bool

	mu      sync.Mutex
	objects map[string]object
	keys    []string // sorted
	writes  uint64
}

type object struct {
	body     []byte
	info     objstore.Info
	retained objstore.Retention
}

// New returns an empty store with a clock. With lock its objects can be
// retained.
func New(now func() time.Time, lock bool) *Store {
	return &Store{now: now, lock: lock, objects: map[string]object{}}
}

// Location names the store.
func (s *Store) Location() string { return "memory" }

// Get implements objstore.Store.
func (s *Store) Get(ctx context.Context, key string, off, n int64) (objstore.Object, error) {
	o, err := s.find(ctx, key)
	if err != nil {
		return objstore.Object{}, err
	}
	if off < 0 || off > o.info.Size || off == o.info.Size && off > 0 && n != 0 {
		return objstore.Object{}, fmt.Errorf("%w: object %s has %d bytes, none at %d", objstore.ErrNotFound, key, o.info.Size, off)
	}
	b := o.body[off:]
	if n >= 0 {
		b = b[:min(n, int64(len(b)))]
	}
	return objstore.Object{Info: o.info, ReadCloser: io.NopCloser(bytes.NewReader(b))}, nil
}

func (s *Store) find(ctx context.Context, key string) (object, error) {
	if err := errors.Join(objstore.CheckKey(key), context.Cause(ctx)); err != nil {
		return object{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[key]
	if !ok {
		return object{}, fmt.Errorf("%w: %s", objstore.ErrNotFound, key)
	}
	return o, nil
}

// Put implements objstore.Store.
func (s *Store) Put(ctx context.Context, key string, body objstore.Body, o objstore.PutOptions) (objstore.Info, error) {
	if err := errors.Join(objstore.CheckKey(key), context.Cause(ctx)); err != nil {
		return objstore.Info{}, err
	}
	if !o.Retain.IsZero() && !s.lock {
		return objstore.Info{}, noLock(key)
	}
	b := make([]byte, body.Size())
	if _, err := io.ReadFull(io.NewSectionReader(body, 0, body.Size()), b); err != nil {
		return objstore.Info{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old, there := s.objects[key]
	switch {
	case o.If.Absent() && there, o.If.Tag() != "" && old.info.Tag != o.If.Tag():
		return objstore.Info{}, fmt.Errorf("%w: %s", objstore.ErrPrecondition, key)
	case there && s.retained(old):
		return objstore.Info{}, fmt.Errorf("%w: object %s is locked until %s", objstore.ErrDenied, key, old.retained.Until)
	}
	s.writes++
	info := objstore.Info{Key: key, Size: int64(len(b)), Tag: strconv.FormatUint(s.writes, 10), Modified: s.now()}
	s.objects[key] = object{body: b, info: info, retained: o.Retain}
	if !there {
		i, _ := slices.BinarySearch(s.keys, key)
		s.keys = slices.Insert(s.keys, i, key)
	}
	return info, nil
}

// Stat implements objstore.Store.
func (s *Store) Stat(ctx context.Context, key string) (objstore.Info, error) {
	o, err := s.find(ctx, key)
	return o.info, err
}

// List implements objstore.Store.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) ([]objstore.Info, bool, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []objstore.Info
	from := sort.Search(len(s.keys), func(i int) bool { return s.keys[i] > after && s.keys[i] >= prefix })
	for _, key := range s.keys[from:] {
		if !strings.HasPrefix(key, prefix) {
			break
		}
		if len(list) == min(limit, objstore.MaxDelete) {
			return list, true, nil
		}
		list = append(list, s.objects[key].info)
	}
	return list, false, nil
}

// Delete implements objstore.Store.
func (s *Store) Delete(ctx context.Context, keys []string) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if len(keys) > objstore.MaxDelete {
		return fmt.Errorf("%w: %d, at most %d are allowed", objstore.ErrTooMany, len(keys), objstore.MaxDelete)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	left := objstore.DeleteError{}
	for _, key := range keys {
		o, there := s.objects[key]
		if !there {
			continue
		}
		if s.retained(o) {
			left[key] = fmt.Errorf("%w: it is locked until %s", objstore.ErrDenied, o.retained.Until)
			continue
		}
		delete(s.objects, key)
		i, _ := slices.BinarySearch(s.keys, key)
		s.keys = slices.Delete(s.keys, i, i+1)
	}
	if len(left) > 0 {
		return left
	}
	return nil
}

// Retain implements objstore.Store.
func (s *Store) Retain(ctx context.Context, key string, r objstore.Retention) error {
	if _, err := s.find(ctx, key); err != nil {
		return err
	}
	if !s.lock {
		return noLock(key)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[key]
	if !ok {
		return fmt.Errorf("%w: %s", objstore.ErrNotFound, key)
	}
	if s.retained(o) && (r.Until.Before(o.retained.Until) || o.retained.Mode == objstore.Compliance && r.Mode != objstore.Compliance) {
		return fmt.Errorf("%w: object %s is locked until %s, and that cannot be shortened", objstore.ErrDenied, key, o.retained.Until)
	}
	o.retained = r
	s.objects[key] = o
	return nil
}

func (s *Store) retained(o object) bool {
	return !o.retained.IsZero() && s.now().Before(o.retained.Until)
}

func noLock(key string) error {
	return fmt.Errorf("%w: object %s cannot be locked, the bucket has no object lock", objstore.ErrDenied, key)
}
