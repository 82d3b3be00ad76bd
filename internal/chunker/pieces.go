package chunker

// PieceSize is the size of the buffer that small writes are joined in, bytes.
const PieceSize = 256 << 10

// Pieces joins the writes of an encoder to the pieces that a payload stream is
// cut in. A write that is smaller than the room left is kept. Otherwise, if it is
// larger than the room, what is kept goes out as one piece; then a write of
// PieceSize or more is a piece of its own, and is not copied, while a smaller one
// is kept.
type Pieces struct {
	out func(piece []byte) error
	buf []byte
	err error
}

// NewPieces returns a joiner that hands pieces to out. A piece belongs to out
// for the time of the call.
func NewPieces(out func(piece []byte) error) *Pieces {
	return &Pieces{out: out, buf: make([]byte, 0, PieceSize)}
}

// Write takes bytes of the stream. An error is that of out, and stays.
func (p *Pieces) Write(b []byte) (int, error) {
	if len(b) > PieceSize-len(p.buf) {
		_ = p.Flush() // its error stays
	}
	switch {
	case p.err != nil:
	case len(b) >= PieceSize: // nothing is kept: it was more than the room, or exactly all of it
		p.err = p.out(b)
	default:
		p.buf = append(p.buf, b...)
	}
	if p.err != nil {
		return 0, p.err
	}
	return len(b), nil
}

// Flush hands out what is kept, as at the end of the stream.
func (p *Pieces) Flush() error {
	if p.err != nil || len(p.buf) == 0 {
		return p.err
	}
	p.err = p.out(p.buf)
	p.buf = p.buf[:0]
	return p.err
}
