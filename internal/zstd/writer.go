package zstd

import (
	"errors"
	"io"
)

// frameSize is how many bytes of input a frame of a [Writer] has.
const frameSize = 1 << 20

// Writer compresses a stream, as frames of 1 MiB behind each other. It takes 2 MiB.
type Writer struct {
	w   io.Writer
	enc *Encoder
	in  []byte
	out []byte
}

// NewWriter makes a Writer; it is closed, or dropped without its last frame.
func NewWriter(w io.Writer) (*Writer, error) {
	enc, err := NewEncoder()
	if err != nil {
		return nil, err
	}
	return &Writer{w: w, enc: enc, in: make([]byte, 0, frameSize), out: make([]byte, Bound(frameSize))}, nil
}

func (w *Writer) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		part := min(len(p), frameSize-len(w.in))
		w.in = append(w.in, p[:part]...)
		n, p = n+part, p[part:]
		if len(w.in) == frameSize {
			if err := w.frame(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

func (w *Writer) frame() error {
	n, ok := w.enc.Compress(w.out, w.in)
	if !ok {
		return errors.New("zstd: a frame is larger than its bound")
	}
	w.in = w.in[:0]
	_, err := w.w.Write(w.out[:n])
	return err
}

// Close writes what is left. A stream without bytes is one empty frame.
func (w *Writer) Close() error {
	if w.enc == nil {
		return nil
	}
	err := w.frame()
	w.Drop()
	return err
}

// Drop frees what the Writer holds, and writes nothing.
func (w *Writer) Drop() {
	if w.enc != nil {
		w.enc.Close()
		w.enc = nil
	}
}
