package collect

import (
	"context"
	"errors"

	"github.com/holdfast-backup/holdfast/internal/objstore"
)

// create stores an object below the number of one's own session. One that is there is one's
// own: a network that doubles a request answers the second one.
func create(ctx context.Context, s objstore.Store, key string, body objstore.Body, o objstore.PutOptions) error {
	_, err := s.Put(ctx, key, body, o)
	if !errors.Is(err, objstore.ErrPrecondition) {
		return err
	}
	info, serr := s.Stat(ctx, key)
	if serr != nil || info.Size != body.Size() {
		return errors.Join(err, serr)
	}
	return nil
}
