package collect

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/resume"
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

// readAll reads an object of at most limit bytes, and reads on where it breaks off.
func readAll(ctx context.Context, s objstore.Store, key string, limit int64) ([]byte, error) {
	r, info, err := resume.Whole(ctx, s, key)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }() // it was only read
	if info.Size > limit {
		return nil, fmt.Errorf("object %s has %d bytes, at most %d are sensible", key, info.Size, limit)
	}
	b := make([]byte, info.Size)
	_, err = io.ReadFull(r, b)
	return b, err
}
