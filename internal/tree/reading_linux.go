package tree

import (
	"bytes"
	"context"
	"io"

	"github.com/holdfast-backup/holdfast/internal/cancel"
	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/kernel/blockdev"
)

func newScan(ctx context.Context, o *Options) *scan {
	s := &scan{o: o, ctx: ctx, ordered: make(chan *batch, queued), fss: map[uint64]*filemeta.FS{}, quit: make(chan struct{})}
	s.changed.L, s.allowed.L = &s.mu, &s.mu
	return s
}

// readers is how many there are at the start.
func (s *scan) readers(dev uint64) int {
	switch {
	case s.o.Readers > 0:
		return min(s.o.Readers, MaxReaders)
	case blockdev.Rotational(dev):
		return 1
	}
	return 2
}

// next returns the batch whose turn it is, when it is done; nil at the end.
func (s *scan) next() (*batch, error) {
	var b *batch
	var ok bool
	select {
	case b, ok = <-s.ordered:
	default:
		s.starve()
		select {
		case b, ok = <-s.ordered:
		case <-s.ctx.Done():
			return nil, context.Cause(s.ctx)
		}
	}
	if !ok {
		return nil, nil
	}
	select {
	case <-b.done:
	default:
		s.starve()
		<-b.done
	}
	if s.ctx.Err() != nil {
		b.abandon()
		return nil, context.Cause(s.ctx)
	}
	return b, nil
}

func (s *scan) starve() {
	s.mu.Lock()
	s.starved = true
	s.mu.Unlock()
}

// reading reads a file until ctx ends.
func (s *scan) reading(fd int) io.Reader { return cancel.Reader(s.ctx, descriptor(fd)) }

func fixed(b []byte) io.Reader { return bytes.NewReader(b) }
