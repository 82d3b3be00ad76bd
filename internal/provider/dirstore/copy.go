package dirstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/image/qcow2/qcow2target"
	"github.com/holdfast-backup/holdfast/internal/zero"
)

const (
	copiers = 4       // pieces under way
	piece   = 4 << 20 // bytes
	grain   = 64 << 10
)

// copyDisk writes all of src that has changed, and returns how many bytes were
// read for it.
func copyDisk(ctx context.Context, src image.Image, dst *qcow2target.Image) (int64, error) {
	var read atomic.Int64
	pieces := make(chan image.Extent)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(pieces)
		return plan(ctx, src, dst, pieces)
	})
	for range copiers {
		g.Go(func() error {
			buf := make([]byte, piece)
			for e := range pieces {
				if err := copyPiece(src, dst, e, buf); err != nil {
					return err
				}
				read.Add(e.Length)
			}
			return nil
		})
	}
	err := g.Wait()
	return read.Load(), err
}

// plan walks over the disk: what is data is handed on, in pieces that begin at
// multiples of their length; zeros are written at once.
func plan(ctx context.Context, src image.Image, dst *qcow2target.Image, pieces chan<- image.Extent) error {
	for off := int64(0); off < src.Size(); {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		e, err := image.ExtentAt(src, off)
		if err != nil {
			return err
		}
		switch e.Kind {
		case image.Zero:
			if err := dst.Zero(off, e.Length); err != nil {
				return err
			}
			image.Consumed(src, off, e.Length)
		case image.Unchanged:
			if dst.Fresh() {
				return fmt.Errorf("%d bytes at offset %d are said to be as before, and there is nothing before", e.Length, off)
			}
		default:
			e.Length = min(e.Length, piece-off%piece)
			select {
			case pieces <- e:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		off += e.Length
	}
	return nil
}

func copyPiece(src image.Image, dst *qcow2target.Image, e image.Extent, buf []byte) error {
	p := buf[:e.Length]
	if n, err := src.ReadAt(p, e.Offset); n < len(p) {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read at offset %d: %w", e.Offset+int64(n), err)
	}
	for off := e.Offset; off < e.End(); {
		n, isZero := run(p[off-e.Offset:], off)
		var err error
		if isZero {
			err = dst.Zero(off, n)
		} else {
			_, err = dst.WriteAt(p[off-e.Offset:][:n], off)
		}
		if err != nil {
			return err
		}
		off += n
	}
	image.Consumed(src, e.Offset, e.Length)
	return nil
}

// run is how many bytes, up to a multiple of grain on the disk, are zeros, or
// not all of them are.
func run(p []byte, off int64) (n int64, isZero bool) {
	end := int64(len(p))
	for n < end {
		step := min(grain-(off+n)%grain, end-n)
		z := zero.Is(p[n : n+step])
		if n > 0 && z != isZero {
			break
		}
		n, isZero = n+step, z
	}
	return n, isZero
}
