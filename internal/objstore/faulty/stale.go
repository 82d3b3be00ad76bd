package faulty

import (
	"context"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/objstore"
)

// change is an object that came or went.
type change struct {
	key  string
	made bool
	was  objstore.Info // of one that went
}

// about describes objects that are about to be removed, for lists that will not know.
func (s *Store) about(ctx context.Context, keys []string) (list []change) {
	for _, key := range keys[:min(len(keys), s.Lag())] {
		if i, err := s.next.Stat(ctx, key); err == nil {
			list = append(list, change{key: key, was: i})
		}
	}
	return list
}

func (s *Store) changed(list ...change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes = append(s.changes, list...)
	s.changes = s.changes[max(len(s.changes)-s.Lag(), 0):]
}

// unknown draws how many of the last changes a list does not know of.
func (s *Store) unknown() []change {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.changes[len(s.changes)-s.Stale(len(s.changes)):])
}

// List implements objstore.Store.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) (list []objstore.Info, more bool, err error) {
	err = s.call(ctx, func() error {
		list, more, err = s.next.List(ctx, prefix, after, limit)
		return err
	}, nil)
	if err != nil {
		return nil, false, err
	}
	unknown := s.unknown()
	for _, c := range slices.Backward(unknown) { // back in time
		list = undo(list, c, prefix, after, more)
	}
	if len(list) > limit { // what came back takes the place of what is on the next page
		list, more = list[:limit], true
	}
	return list, more, nil
}

// undo takes a change out of a page.
func undo(list []objstore.Info, c change, prefix, after string, more bool) []objstore.Info {
	i, there := slices.BinarySearchFunc(list, c.key, func(i objstore.Info, key string) int { return strings.Compare(i.Key, key) })
	switch {
	case c.made && there:
		return slices.Delete(list, i, i+1)
	case c.made || there || !strings.HasPrefix(c.key, prefix) || c.key <= after, more && i == len(list): // the next page has it
		return list
	}
	return slices.Insert(list, i, c.was)
}
