package job

import (
	"context"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/pagebuf"
)

// spool is memory for chunks on their way, given out and taken back in the same
// order: a ring of bytes outside the heap. One goroutine takes, one gives back.
type spool struct {
	buf  *pagebuf.Buffer
	head int64         // bytes ever given out, the unused ends of rounds included
	tail chan int64    // holds one: bytes ever taken back
	news chan struct{} // something was taken back
}

// piece is a part of a spool.
type piece struct {
	mem []byte // its capacity is its length
	end int64  // head of the spool behind it
}

func newSpool(size int) (*spool, error) {
	buf, err := pagebuf.New(size)
	if err != nil {
		return nil, err
	}
	s := &spool{buf: buf, tail: make(chan int64, 1), news: make(chan struct{}, 1)}
	s.tail <- 0
	return s, nil
}

func (s *spool) close() { s.buf.Free() }

// take waits for n bytes in one piece.
func (s *spool) take(ctx context.Context, n int) (piece, error) {
	size := int64(len(s.buf.Bytes()))
	if int64(n) > size {
		return piece{}, fmt.Errorf("a piece of %d bytes from a spool of %d", n, size)
	}
	start := s.head
	if at := start % size; at+int64(n) > size {
		start += size - at // the rest of this round stays unused
	}
	end := start + int64(n)
	for {
		tail := <-s.tail
		s.tail <- tail
		if end-tail <= size || tail == s.head { // an empty spool has room for anything
			at := int(start % size)
			s.head = end
			return piece{s.buf.Bytes()[at : at+n : at+n], end}, nil
		}
		select {
		case <-s.news:
		case <-ctx.Done():
			return piece{}, context.Cause(ctx)
		}
	}
}

// reset takes everything back that nobody uses any more.
func (s *spool) reset() { s.give(piece{end: s.head}) }

// give takes a piece back, and with it all that were given out before it.
func (s *spool) give(p piece) {
	<-s.tail
	s.tail <- p.end
	select {
	case s.news <- struct{}{}:
	default:
	}
}
