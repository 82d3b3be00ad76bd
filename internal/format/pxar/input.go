package pxar

import (
	"errors"
	"fmt"
	"io"
	"math"
)

// input reads an archive with a window of bounded size, from a stream or from
// a part of a file.
type input struct {
	r     io.Reader   // either this
	at    io.ReaderAt // or this
	limit int64       // no byte at or behind it is read
	pos   int64       // of buf[i] in the archive
	buf   []byte
	i, j  int // buf[i:j] is read and not consumed
	ahead int // bytes to read at a time, doubled up to maxAhead
}

const (
	maxAhead  = 128 << 10
	fileAhead = 512 // a single entry: most have less
	listAhead = 4 << 10
)

func streamInput(r io.Reader) *input {
	return &input{r: r, limit: math.MaxInt64, ahead: maxAhead}
}

func fileInput(r io.ReaderAt, pos, limit int64, ahead int) *input {
	return &input{at: r, pos: pos, limit: limit, ahead: ahead}
}

// peek returns the next n bytes without consuming them; they are valid until
// the next call. The caller has checked n. Without a single byte left the error
// is io.EOF, bare.
func (in *input) peek(n int) ([]byte, error) {
	if in.j-in.i < n {
		if err := in.fill(n); err != nil {
			return nil, err
		}
	}
	return in.buf[in.i : in.i+n], nil
}

func (in *input) fill(n int) error {
	if size := max(n, in.ahead); size > len(in.buf) {
		grown := make([]byte, size)
		in.j = copy(grown, in.buf[in.i:in.j])
		in.buf, in.i = grown, 0
	} else if in.i > 0 {
		in.j = copy(in.buf, in.buf[in.i:in.j])
		in.i = 0
	}
	have := in.j
	end := have + int(min(int64(max(n, in.ahead)-have), in.limit-in.pos-int64(have)))
	if end < n {
		return in.short(end)
	}
	var k int
	var err error
	if in.at != nil {
		k, err = in.at.ReadAt(in.buf[have:end], in.pos+int64(have))
		in.ahead = min(2*in.ahead, maxAhead)
	} else {
		k, err = io.ReadAtLeast(in.r, in.buf[have:end], n-have)
	}
	in.j += k
	switch {
	case in.j >= n:
		return nil
	case in.at != nil && (err == nil || errors.Is(err, io.EOF)): // the file is shorter than it was said to be
		return fmt.Errorf("read archive at offset %d: %w", in.pos+int64(in.j), io.ErrUnexpectedEOF)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return in.short(in.j)
	}
	return fmt.Errorf("read archive at offset %d: %w", in.pos+int64(in.j), err)
}

// short is the error for an end with so many bytes left.
func (in *input) short(left int) error {
	if left == 0 {
		return io.EOF
	}
	return fmt.Errorf("%w: cut short in an item: %d bytes from offset %d on are too few", ErrFormat, left, in.pos)
}

// next returns the next n bytes and consumes them.
func (in *input) next(n int) ([]byte, error) {
	b, err := in.peek(n)
	if err != nil {
		return nil, in.within(err)
	}
	in.i += n
	in.pos += int64(n)
	return b, nil
}

// within turns an end of file into an error: more is expected.
func (in *input) within(err error) error {
	if err == io.EOF { //nolint:errorlint // peek returns it bare
		return fmt.Errorf("%w: cut short at offset %d", ErrFormat, in.pos)
	}
	return err
}

// skip consumes n bytes.
func (in *input) skip(n int64) error {
	have := min(n, int64(in.j-in.i))
	in.i += int(have)
	in.pos += have
	n -= have
	if n == 0 {
		return nil
	}
	in.i, in.j = 0, 0
	switch {
	case n > in.limit-in.pos:
		return fmt.Errorf("%w: cut short: %d bytes at offset %d reach behind %d", ErrFormat, n, in.pos, in.limit)
	case in.at != nil:
		in.pos += n
		in.ahead = min(in.ahead, listAhead) // a far jump: what is ahead may be jumped over too
		return nil
	}
	k, err := discard(in.r, n, &in.buf)
	in.pos += k
	switch {
	case k == n:
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return fmt.Errorf("%w: cut short at offset %d, %d bytes before the end of an item", ErrFormat, in.pos, n-k)
	}
	return fmt.Errorf("read archive at offset %d: %w", in.pos, err)
}

// discard jumps over n bytes of r, by seeking if r can.
func discard(r io.Reader, n int64, buf *[]byte) (int64, error) {
	if s, ok := r.(io.Seeker); ok && n > maxAhead {
		// One byte is read, so that an end before it shows.
		if _, err := s.Seek(n-1, io.SeekCurrent); err == nil {
			var one [1]byte
			k, err := io.ReadFull(r, one[:])
			return n - 1 + int64(k), err
		}
	}
	if *buf == nil {
		*buf = make([]byte, maxAhead)
	}
	done := int64(0)
	for done < n {
		k, err := r.Read((*buf)[:min(n-done, int64(len(*buf)))])
		done += int64(k)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// read reads file content of which n bytes are left.
func (in *input) read(p []byte) (int, error) {
	if in.i < in.j {
		n := copy(p, in.buf[in.i:in.j])
		in.i += n
		in.pos += int64(n)
		return n, nil
	}
	n, err := in.r.Read(p)
	in.pos += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("read archive at offset %d: %w", in.pos, err)
	}
	return n, err
}
