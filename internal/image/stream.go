package image

import (
	"errors"
	"fmt"
	"io"
)

// Sequential is a source whose bytes come once and in order, such as a pipe.
//
// Next fills p and returns len(p) and nil. At the end it returns what was left,
// perhaps nothing, and io.EOF, and from then on 0 and io.EOF. With any other
// error the n bytes before it are good. Only one call at a time.
type Sequential interface {
	Next(p []byte) (n int, err error)
}

// SizeUnknown is the declared size of a stream whose length shows at its end.
const SizeUnknown = -1

// Stream is a Sequential over a reader.
type Stream struct {
	r    io.Reader
	want int64 // SizeUnknown, or the bytes that must come
	off  int64
	done error // the answer from the end on
}

var _ Sequential = (*Stream)(nil)

// LengthError reports a stream that does not have the declared size.
type LengthError struct {
	Want int64 // declared
	Have int64 // came; one more than Want when the stream goes on
}

func (e *LengthError) Error() string {
	if e.Have > e.Want {
		return fmt.Sprintf("the input goes on behind its declared size of %d bytes: declare its true size or none", e.Want)
	}
	return fmt.Sprintf("the input ended after %d of its declared %d bytes: "+
		"see whether what produced it failed, or declare its true size", e.Have, e.Want)
}

// NewStream reads r as an image of size bytes, or of any size with SizeUnknown.
func NewStream(r io.Reader, size int64) *Stream {
	return &Stream{r: r, want: max(size, SizeUnknown)}
}

// Size is the declared size, or SizeUnknown.
func (s *Stream) Size() int64 { return s.want }

// Offset is the number of bytes that have come so far.
func (s *Stream) Offset() int64 { return s.off }

// Next returns the bytes that follow. A stream with a declared size ends there;
// if it ends earlier or goes on, the error is a [*LengthError].
func (s *Stream) Next(p []byte) (int, error) {
	if s.done != nil || len(p) == 0 {
		return 0, s.done
	}
	asked := len(p)
	if s.want != SizeUnknown {
		p = p[:min(int64(len(p)), s.want-s.off)]
	}
	n, err := io.ReadFull(s.r, p)
	s.off += int64(n)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		s.done = s.end()
	case err != nil:
		s.done = fmt.Errorf("read the input at offset %d: %w", s.off, err)
	case s.off == s.want:
		s.done = s.tail()
	}
	if n == asked && n > 0 && errors.Is(s.done, io.EOF) {
		return n, nil // full: the end is told by the next call
	}
	return n, s.done
}

// end is the answer when the reader has ended.
func (s *Stream) end() error {
	if s.want != SizeUnknown && s.off != s.want {
		return &LengthError{Want: s.want, Have: s.off}
	}
	return io.EOF
}

// tail makes sure that the reader ends where it was declared to.
func (s *Stream) tail() error {
	var one [1]byte
	n, err := io.ReadFull(s.r, one[:])
	switch {
	case n > 0:
		return &LengthError{Want: s.want, Have: s.want + 1}
	case errors.Is(err, io.EOF):
		return io.EOF
	}
	return fmt.Errorf("read the input at offset %d: %w", s.off, err)
}
