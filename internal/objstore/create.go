package objstore

import (
	"context"
	"errors"
)

// Create stores an object whose key is the caller's alone. One that is there is the
// caller's own: of a request whose answer was lost, or that the network doubled, so
// that the second one was answered. An engine that says there is one where none is,
// as after a crash in the middle of a request, is asked without a condition: nothing
// is replaced.
func Create(ctx context.Context, s Store, key string, body Body, r Retention) error {
	_, err := s.Put(ctx, key, body, PutOptions{If: IfAbsent, Retain: r})
	if !errors.Is(err, ErrPrecondition) {
		return err
	}
	info, serr := s.Stat(ctx, key)
	if errors.Is(serr, ErrNotFound) {
		_, err = s.Put(ctx, key, body, PutOptions{Retain: r})
		return err
	}
	if serr != nil || info.Size != body.Size() {
		return errors.Join(err, serr)
	}
	return nil
}
