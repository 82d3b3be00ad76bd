package server

import (
	"io"

	"github.com/holdfast-backup/holdfast/internal/zstd"
)

// zstdWriter compresses a stream as frames of up to a mebibyte.
type zstdWriter struct {
	w   io.Writer
	enc *zstd.Encoder
	in  []byte
	out []byte
}

func newZstdWriter(w io.Writer) (*zstdWriter, error) {
	const block = 1 << 20
	enc, err := zstd.NewEncoder()
	if err != nil {
		return nil, err
	}
	return &zstdWriter{w, enc, make([]byte, 0, block), make([]byte, zstd.Bound(block))}, nil
}

// Write implements io.Writer.
func (z *zstdWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		k := copy(z.in[len(z.in):cap(z.in)], p)
		z.in, p = z.in[:len(z.in)+k], p[k:]
		if len(z.in) == cap(z.in) {
			if err := z.flush(); err != nil {
				return n - len(p), err
			}
		}
	}
	return n, nil
}

func (z *zstdWriter) flush() error {
	n, _ := z.enc.Compress(z.out, z.in) // it fits: out has the size for it
	z.in = z.in[:0]
	_, err := z.w.Write(z.out[:n])
	return err
}

// Close writes what is left, an empty frame for nothing at all.
func (z *zstdWriter) Close() error {
	err := z.flush()
	z.enc.Close()
	return err
}
