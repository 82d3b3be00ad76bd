package pbsbucket

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-backup/holdfast/internal/objstore/resume"
)

// errTooLong is an object that is larger than the format allows.
var errTooLong = errors.New("it is longer than the format allows")

// read gives an object of at most most bytes to take, with its size.
func (r *Repository) read(ctx context.Context, key string, most int64, take func(in io.Reader, size int64) error) (err error) {
	in, o, err := resume.Whole(ctx, r.store, key)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	if o.Size > most {
		return fmt.Errorf("%w: %d bytes", errTooLong, o.Size)
	}
	return take(in, o.Size)
}

// readAll reads an object into memory.
func (r *Repository) readAll(ctx context.Context, key string, most int64) (b []byte, err error) {
	err = r.read(ctx, key, most, func(in io.Reader, size int64) error {
		b = make([]byte, size)
		_, err := io.ReadFull(in, b)
		return err
	})
	return b, err
}
