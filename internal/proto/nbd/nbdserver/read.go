package nbdserver

import (
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
	"github.com/holdfast-backup/holdfast/internal/zero"
)

const (
	inlineRead = 64 << 10 // reads up to this are answered by the reader if the image can
	holeQuery  = 64 << 10 // reads from this on ask the image for its extents
	maxPieces  = 128      // chunks of one reply
)

// readInline answers a small READ that needs no waiting.
func (c *conn) readInline(r nbd.Request) (done bool, err error) {
	if c.exp.try == nil || r.Length > inlineRead {
		return false, nil
	}
	n := int(r.Length)
	if err := c.out.reserve(c.head + n); err != nil {
		return false, err
	}
	start := len(c.out.inline)
	b := c.out.inline[:start+c.head+n]
	data := b[start+c.head:]
	if n > 0 && !c.exp.tryReadAt(data, int64(r.Offset)) {
		return false, nil
	}
	c.exp.count.read(n)
	switch {
	case n == 0:
		b = c.appendDone(b[:start], r)
	case c.mode == nbd.Simple:
		nbd.SimpleReply{Cookie: r.Cookie}.Append(b[:start])
	case r.Flags&nbd.FlagDF == 0 && zero.Is(data):
		b = c.appendHole(b[:start], r, r.Offset, n, nbd.FlagDone)
	default:
		c.appendData(b[:start], r, r.Offset, n, nbd.FlagDone)
	}
	c.out.inline = b
	return true, nil
}

// appendData appends what comes before n bytes of data.
func (c *conn) appendData(b []byte, r nbd.Request, off uint64, n int, f nbd.ChunkFlags) []byte {
	h := nbd.Chunk{Flags: f, Type: nbd.ChunkOffsetData, Cookie: r.Cookie, Offset: r.Offset, Length: uint64(n) + 8}
	b = h.Append(b, c.mode)
	return nbd.AppendOffset(b, off)
}

// appendHole appends a chunk of n zeros.
func (c *conn) appendHole(b []byte, r nbd.Request, off uint64, n int, f nbd.ChunkFlags) []byte {
	h := nbd.Chunk{Flags: f, Type: nbd.ChunkOffsetHole, Cookie: r.Cookie, Offset: r.Offset, Length: nbd.HoleSize}
	return nbd.Hole{Offset: off, Length: uint32(n)}.Append(h.Append(b, c.mode))
}

// piece is a part of a READ's range.
type piece struct {
	from, to int // in the request
	hole     bool
}

// read executes a READ.
func (w *worker) read(j job) {
	r, n := j.req, int(j.req.Length)
	w.exp.count.read(n)
	if n == 0 {
		w.answer(r, nil)
		return
	}
	data := j.buf.Bytes()[:n]
	if err := w.fetch(r, data); err != nil {
		w.s.pool.put(&w.mem, j.buf)
		w.answer(r, err)
		return
	}
	b := w.out.begin()
	b.bufs = append(b.bufs, j.buf)
	if w.mode == nbd.Simple {
		b.head = nbd.SimpleReply{Cookie: r.Cookie}.Append(b.head)
		b.payload(data)
		w.out.end()
		return
	}
	for i, p := range w.pieces {
		var f nbd.ChunkFlags
		if i == len(w.pieces)-1 {
			f = nbd.FlagDone
		}
		if p.hole {
			b.head = w.appendHole(b.head, r, r.Offset+uint64(p.from), p.to-p.from, f)
			continue
		}
		b.head = w.appendData(b.head, r, r.Offset+uint64(p.from), p.to-p.from, f)
		b.payload(data[p.from:p.to])
	}
	w.out.end()
}

// fetch fills data and says in pieces what of it is zero and was not read.
func (w *worker) fetch(r nbd.Request, data []byte) error {
	n := len(data)
	w.pieces = append(w.pieces[:0], piece{to: n})
	holes := w.mode != nbd.Simple && r.Flags&nbd.FlagDF == 0
	if w.exp.knows && n >= holeQuery {
		w.split(int64(r.Offset), n)
	}
	for i := range w.pieces {
		p := &w.pieces[i]
		if p.hole && holes {
			continue
		}
		if p.hole {
			clear(data[p.from:p.to])
			continue
		}
		if k, err := w.exp.readAt(data[p.from:p.to], int64(r.Offset)+int64(p.from)); err != nil {
			return &placeError{off: r.Offset + uint64(p.from+k), err: err}
		}
	}
	if !holes {
		w.pieces = append(w.pieces[:0], piece{to: n})
	} else if len(w.pieces) == 1 && !w.pieces[0].hole && zero.Is(data) {
		w.pieces[0].hole = true
	}
	return nil
}

// split divides n bytes at off by the extents of the image. Where that is not
// known, or there are too many, it is data.
func (w *worker) split(off int64, n int) {
	w.pieces = w.pieces[:0]
	for at := 0; at < n; {
		next := piece{from: at, to: n}
		if len(w.pieces) < maxPieces-1 {
			if e, err := w.exp.ExtentAt(off + int64(at)); err == nil && e.Length > 0 {
				next.to = at + int(min(e.Length, int64(n-at)))
				next.hole = e.Kind == image.Zero
			}
		}
		if k := len(w.pieces); k > 0 && w.pieces[k-1].hole == next.hole {
			w.pieces[k-1].to = next.to
		} else {
			w.pieces = append(w.pieces, next)
		}
		at = next.to
	}
}
