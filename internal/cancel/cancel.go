// Package cancel ends with a context what knows of none: a pause, a reader. The error is
// the context's cause.
package cancel

import (
	"context"
	"io"
	"time"
)

// Sleep returns after d, or with the cause when ctx ends. With nothing to wait for it
// says whether ctx has ended.
func Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Reader reads from r until ctx ends. A read that has begun is waited for.
func Reader(ctx context.Context, r io.Reader) io.Reader { return reader{ctx, r} }

type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}
