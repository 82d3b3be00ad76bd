package nbdserver

import (
	"io"
	"net"
	"sync/atomic"
	"time"
)

// input is the buffered reading side of a connection, of one goroutine.
type input struct {
	nc       net.Conn
	buf      []byte
	r, w     int
	stall    time.Duration // 0: deadlines are the handshake's
	draining atomic.Bool
}

// inputSize holds a thousand requests, and any option.
const inputSize = 32 << 10

func (in *input) buffered() int { return in.w - in.r }

// need sees to it that n bytes (at most inputSize) are buffered. It waits for
// the first one as long as it takes.
func (in *input) need(n int) error {
	if in.buffered() >= n {
		return nil
	}
	if in.r > 0 {
		copy(in.buf, in.buf[in.r:in.w])
		in.r, in.w = 0, in.w-in.r
	}
	limited := false
	for in.w < n {
		if in.w > 0 && !limited {
			limited = true
			in.limit(n)
		}
		k, err := in.nc.Read(in.buf[in.w:])
		in.w += k
		if in.w < n && err != nil {
			if err == io.EOF && in.w > 0 { //nolint:errorlint // io.Reader's contract
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
	if limited {
		in.unlimit()
	}
	return nil
}

// take returns n buffered bytes, valid until the next call of need.
func (in *input) take(n int) []byte {
	b := in.buf[in.r : in.r+n]
	in.r += n
	return b
}

// read fills p.
func (in *input) read(p []byte) error {
	k := copy(p, in.buf[in.r:in.w])
	in.r += k
	if k == len(p) {
		return nil
	}
	in.limit(len(p))
	if _, err := io.ReadFull(in.nc, p[k:]); err != nil {
		if err == io.EOF { //nolint:errorlint // io.Reader's contract
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	in.unlimit()
	return nil
}

// discard reads n bytes and drops them.
func (in *input) discard(n int64) error {
	for n > 0 {
		k := min(n, inputSize)
		if err := in.need(int(k)); err != nil {
			return err
		}
		in.take(int(k))
		n -= k
	}
	return nil
}

// limit gives the peer time for n bytes that it has announced.
func (in *input) limit(n int) {
	if in.stall > 0 {
		in.deadline(time.Now().Add(in.stall + transfer(n)))
	}
}

func (in *input) unlimit() {
	if in.stall > 0 {
		in.deadline(time.Time{})
	}
}

// deadline sets one, but never takes away that of a server that ends.
func (in *input) deadline(t time.Time) {
	if !in.draining.Load() {
		_ = in.nc.SetReadDeadline(t)
	}
	if in.draining.Load() { // perhaps since just now
		_ = in.nc.SetReadDeadline(time.Now().Add(shutdownGrace))
	}
}

// transfer is the time that a slow peer may take for n bytes.
func transfer(n int) time.Duration { return time.Duration(n) * time.Second / slowest }
