// Package resume reads ranges of objects, and reads on where a connection broke.
//
// A range is asked for once. If its body breaks off, what is left is asked for,
// after a wait that doubles from [First] to [Longest], as long as it takes: each
// byte that comes counts as a new beginning, and [Tries] that bring none are the
// end. Opening is tried again by the store below (objstore/retry), not here.
//
// So a range of an object that never changes comes whole, or with an error. One
// that may be replaced is read with [Whole], which notices.
package resume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/holdfast-backup/holdfast/internal/cancel"
	"github.com/holdfast-backup/holdfast/internal/objstore"
)

// Bounds of what is tried.
const (
	Tries   = 6 // that bring nothing
	First   = 100 * time.Millisecond
	Longest = 5 * time.Second
)

// ErrShort is wrapped when an object ends before the range does.
var ErrShort = errors.New("the object is shorter than it should be")

// ErrReplaced is wrapped when an object is not the one that was begun.
var ErrReplaced = errors.New("the object was replaced while it was read")

// Reader is a range of an object. It belongs to one goroutine.
type Reader struct {
	ctx  context.Context
	s    objstore.Store
	key  string
	off  int64 // of the next byte
	end  int64
	tag  string        // of the object; "" where it cannot change
	body io.ReadCloser // nil when it broke
	idle int           // tries that brought nothing
	wait time.Duration
}

// Open asks for n bytes of an object from off, all of which must be there. The
// reader ends with io.EOF behind them, and must be closed.
func Open(ctx context.Context, s objstore.Store, key string, off, n int64) (*Reader, error) {
	r := &Reader{ctx: ctx, s: s, key: key, off: off, end: off + n, wait: First}
	if n == 0 {
		return r, nil
	}
	return r, r.open()
}

// Whole asks for all of an object.
func Whole(ctx context.Context, s objstore.Store, key string) (*Reader, objstore.Info, error) {
	o, err := s.Get(ctx, key, 0, -1)
	if err != nil {
		return nil, objstore.Info{}, err
	}
	return &Reader{ctx: ctx, s: s, key: key, end: o.Size, tag: o.Tag, body: o.ReadCloser, wait: First}, o.Info, nil
}

// ReadAll reads an object of at most limit bytes.
func ReadAll(ctx context.Context, s objstore.Store, key string, limit int64) ([]byte, objstore.Info, error) {
	r, info, err := Whole(ctx, s, key)
	if err != nil {
		return nil, objstore.Info{}, err
	}
	defer func() { _ = r.Close() }() // it was only read
	if info.Size > limit {
		return nil, objstore.Info{}, fmt.Errorf("object %s has %d bytes, at most %d are sensible", key, info.Size, limit)
	}
	b := make([]byte, info.Size)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, objstore.Info{}, fmt.Errorf("read object %s: %w", key, err)
	}
	return b, info, nil
}

// Fetch fills p from offset off of an object.
func Fetch(ctx context.Context, s objstore.Store, key string, p []byte, off int64) error {
	r, err := Open(ctx, s, key, off, int64(len(p)))
	if err != nil {
		return err
	}
	_, err = io.ReadFull(r, p)
	return errors.Join(err, r.Close())
}

func (r *Reader) open() error {
	o, err := r.s.Get(r.ctx, r.key, r.off, r.end-r.off)
	if err != nil {
		return err
	}
	if r.tag != "" && o.Tag != r.tag {
		_ = o.Close() // nothing of it is of use
		return fmt.Errorf("object %s: %w", r.key, ErrReplaced)
	}
	if o.Size < r.end {
		_ = o.Close() // nothing of it is of use
		return fmt.Errorf("object %s: %w: it has %d bytes, those up to %d were asked for", r.key, ErrShort, o.Size, r.end)
	}
	r.body = o.ReadCloser
	return nil
}

// Read returns the next bytes.
func (r *Reader) Read(p []byte) (int, error) {
	if left := r.end - r.off; left == 0 {
		return 0, io.EOF
	} else if int64(len(p)) > left {
		p = p[:left]
	}
	for {
		if r.body == nil {
			if err := r.open(); err != nil {
				return 0, err
			}
		}
		n, err := r.body.Read(p)
		r.off += int64(n)
		if n > 0 {
			r.idle, r.wait = 0, First
			return n, nil // an error comes again, or was none
		}
		if err == nil {
			continue
		}
		if err := r.again(err); err != nil {
			return 0, err
		}
	}
}

// again waits before another try, if there is one.
func (r *Reader) again(err error) error {
	_ = r.Close() // it broke already
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if r.idle++; r.idle == Tries || r.ctx.Err() != nil {
		return fmt.Errorf("read object %s at %d: %w", r.key, r.off, err)
	}
	if stop := cancel.Sleep(r.ctx, r.wait); stop != nil {
		return errors.Join(stop, err)
	}
	r.wait = min(2*r.wait, Longest)
	return nil
}

// Close gives up what was not read.
func (r *Reader) Close() error {
	if r.body == nil {
		return nil
	}
	err := r.body.Close()
	r.body = nil
	return err
}
