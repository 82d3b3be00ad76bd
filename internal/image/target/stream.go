package target

import (
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-backup/holdfast/internal/image"
)

// ErrOrder is wrapped when a stream is asked to go back.
var ErrOrder = errors.New("a pipe takes its bytes in order")

// Stream is a target that takes its bytes in order, such as a pipe.
type Stream struct {
	w    io.Writer
	size int64
	pos  int64
	err  error // of the first failed write; nothing follows it
}

var (
	_ image.Target  = (*Stream)(nil)
	_ image.Ordered = (*Stream)(nil)
)

// NewStream writes an image of size bytes to w. Close does not close w.
func NewStream(w io.Writer, size int64) *Stream { return &Stream{w: w, size: size} }

// Fresh is true: what is left out comes out as zeros.
func (s *Stream) Fresh() bool { return true }

// Sequential is true, see [image.Ordered].
func (s *Stream) Sequential() bool { return true }

// WriteAt writes zeros up to off and then p.
func (s *Stream) WriteAt(p []byte, off int64) (int, error) {
	if err := s.seek(off, int64(len(p))); err != nil {
		return 0, err
	}
	return s.write(p)
}

// Zero passes over the range; the zeros come before what follows it.
func (s *Stream) Zero(off, n int64) error { return s.seek(off, n) }

// Finish writes the zeros that are left up to the size of the image.
func (s *Stream) Finish() error { return s.seek(s.size, 0) }

// Close does nothing.
func (s *Stream) Close() error { return nil }

func (s *Stream) seek(off, n int64) error {
	switch {
	case off < 0 || n < 0 || off > s.size-n:
		return fmt.Errorf("write of %d bytes at offset %d exceeds the image's %d bytes", n, off, s.size)
	case off < s.pos:
		return fmt.Errorf("%w: offset %d after %d", ErrOrder, off, s.pos)
	}
	for s.pos < off && s.err == nil {
		_, _ = s.write(zeros[:min(off-s.pos, int64(len(zeros)))])
	}
	return s.err
}

func (s *Stream) write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.w.Write(p)
	s.pos += int64(n)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		s.err = fmt.Errorf("write the image to the output at offset %d: %w", s.pos, err)
	}
	return n, s.err
}
