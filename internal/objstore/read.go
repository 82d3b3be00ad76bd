package objstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
)

// ReadAll reads an object of at most limit bytes with one Get, for whoever wants to
// see what one gives: probes and tests. Others read with objstore/resume, which reads
// on where a connection broke.
func ReadAll(ctx context.Context, s Store, key string, limit int64) ([]byte, Info, error) {
	o, err := s.Get(ctx, key, 0, -1)
	if err != nil {
		return nil, Info{}, err
	}
	defer func() { _ = o.Close() }() // it was only read
	if o.Size > limit {
		return nil, Info{}, fmt.Errorf("object %s has %d bytes, at most %d are sensible", key, o.Size, limit)
	}
	b := make([]byte, o.Size)
	if _, err := io.ReadFull(o, b); err != nil {
		return nil, Info{}, fmt.Errorf("read object %s: %w", key, unexpected(err))
	}
	return b, o.Info, nil
}

// ReadAt fills p from offset off of an object, which must have those bytes, with one
// Get too.
func ReadAt(ctx context.Context, s Store, key string, p []byte, off int64) error {
	o, err := s.Get(ctx, key, off, int64(len(p)))
	if err != nil {
		return err
	}
	defer func() { _ = o.Close() }() // it was only read
	if _, err := io.ReadFull(o, p); err != nil {
		return fmt.Errorf("read object %s at %d: %w", key, off, unexpected(err))
	}
	return nil
}

// unexpected is err, where the end came before all was read.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// All lists what lies below a prefix, page by page. A failure is the last thing
// it gives.
func All(ctx context.Context, s Store, prefix, after string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		for {
			list, more, err := s.List(ctx, prefix, after, MaxDelete)
			if err != nil {
				yield(Info{}, err)
				return
			}
			for _, i := range list {
				if !yield(i, nil) {
					return
				}
			}
			if !more || len(list) == 0 {
				return
			}
			after = list[len(list)-1].Key
		}
	}
}
