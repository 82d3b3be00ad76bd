package chunker

import (
	"errors"
	"fmt"
)

// Injection says that known chunks stand in a payload stream.
type Injection struct {
	At   int64 // offset in the stream, injected bytes included
	Size int64 // bytes of all its chunks together
}

// Event says what was found behind the bytes that Scan returned.
type Event uint8

const (
	// More: the chunk goes on; all of the piece belongs to it.
	More Event = iota
	// Cut: the chunk ends here.
	Cut
	// Inject: the chunk ends here, if it has any bytes at all, and the oldest
	// injection follows it.
	Inject
)

// Payload cuts a payload stream:
//
//   - A hint is an offset at which a chunk would well start: where the header of
//     a file stands. Of the bytes that have arrived and have not been scanned,
//     the first hint within them that makes a chunk of A/4 to 4A bytes cuts
//     there, and nothing looks for a hash before it. A hint that would make a
//     smaller chunk, or that is passed already, is dropped; one that would make
//     a larger chunk waits. A hint just at the start of the bytes comes too late.
//   - Without such a hint the bytes are scanned as by [Chunker].
//   - An injection cuts at its offset, however short the chunk, unless the chunk
//     ends earlier. The stream goes on behind the injected bytes, and all
//     offsets count them.
//
// It is not safe for concurrent use.
type Payload struct {
	c          Chunker
	pos        int64 // stream offset of the next byte
	hints      []int64
	injections []Injection
}

// NewPayload returns a chunker for the start of a payload stream. avg is as for
// [New].
func NewPayload(avg int) (*Payload, error) {
	c, err := New(avg)
	if err != nil {
		return nil, err
	}
	return &Payload{c: *c}, nil
}

// Max returns the size of the largest chunk in bytes that is cut by itself.
func (p *Payload) Max() int { return p.c.max }

// Offset returns the stream offset of the next byte, injected bytes included.
func (p *Payload) Offset() int64 { return p.pos }

// Hint announces that a file begins at the stream offset off. Hints come in
// ascending order and before the piece that holds the byte is scanned.
func (p *Payload) Hint(off int64) { p.hints = append(p.hints, off) }

// Inject announces known chunks. Their offset is neither before that of the
// next byte nor before the end of the injection announced before.
func (p *Payload) Inject(in Injection) error {
	from := p.pos
	if n := len(p.injections); n > 0 {
		from = p.injections[n-1].At + p.injections[n-1].Size
	}
	if in.At < from || in.Size <= 0 || in.At+in.Size < in.At {
		return fmt.Errorf("chunker: injection of %d bytes at %d: the stream has reached %d", in.Size, in.At, from)
	}
	p.injections = append(p.injections, in)
	return nil
}

// Scan takes the bytes of a piece, or what an earlier call left of it. It
// returns how many of them belong to the current chunk, and what follows these.
// After Cut and Inject it is called again with the rest of the piece, even when
// that is empty: an injection may stand at its end.
func (p *Payload) Scan(piece []byte) (int, Event) {
	n := 0
	if len(piece) > 0 {
		n = p.boundary(piece)
	}
	if len(p.injections) > 0 {
		at := p.injections[0].At - p.pos
		if n > 0 && int64(n) >= at || n == 0 && int64(len(piece)) >= at {
			p.c.Reset()
			p.pos += at + p.injections[0].Size
			p.injections = p.injections[1:]
			return int(at), Inject
		}
	}
	if n == 0 {
		p.pos += int64(len(piece))
		return len(piece), More
	}
	p.pos += int64(n)
	return n, Cut
}

// boundary finds the end of the chunk by hints and hash alone, 0 if it is not
// in the piece.
func (p *Payload) boundary(piece []byte) int {
	for len(p.hints) > 0 {
		at := p.hints[0] - p.pos // in the piece
		size := int64(p.c.size) + at
		if at > int64(len(piece)) || at >= 0 && size > int64(p.c.max) {
			break
		}
		p.hints = p.hints[1:]
		if at < 0 || size < int64(p.c.min) {
			continue
		}
		if at == 0 {
			break
		}
		p.c.Reset()
		return int(at)
	}
	return p.c.Scan(piece)
}

// ErrUnused is wrapped by Close when an injection was announced for an offset
// that the stream never reached.
var ErrUnused = errors.New("the payload stream ended before an injection")

// Close checks, behind the last byte, that every injection took place.
func (p *Payload) Close() error {
	if len(p.injections) > 0 {
		return fmt.Errorf("%w at %d: it has %d bytes", ErrUnused, p.injections[0].At, p.pos)
	}
	return nil
}
