package objstore

import (
	"context"
	"errors"
)

// Create stores an object whose key is the caller's alone. One that is there is the
// caller's own: of a request whose answer was lost, or that the network doubled, so
// that the second one was answered.
func Create(ctx context.Context, s Store, key string, body Body, r Retention) error {
	_, err := s.Put(ctx, key, body, PutOptions{If: IfAbsent, Retain: r})
	if !errors.Is(err, ErrPrecondition) {
		return err
	}
	info, serr := s.Stat(ctx, key)
	if serr != nil || info.Size != body.Size() {
		return errors.Join(err, serr)
	}
	return nil
}
