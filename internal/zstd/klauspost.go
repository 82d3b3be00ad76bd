//go:build !libzstd || !cgo

package zstd

import (
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// Backend names the library behind this package.
const Backend = "klauspost/compress"

// window is how far back a match may reach. A chunk has 4 MiB, so matches
// reach everything in it. An encoder keeps a copy of the window.
const window = 4 << 20

// Encoder compresses buffers.
type Encoder struct{ enc *zstd.Encoder }

// NewEncoder returns an encoder. Close it.
func NewEncoder() (*Encoder, error) {
	enc, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(window),
		zstd.WithLowerEncoderMem(true),
		zstd.WithEncoderCRC(false),
		zstd.WithSingleSegment(true), // small frames would lack their content size
	)
	if err != nil {
		return nil, fmt.Errorf("zstd encoder: %w", err)
	}
	return &Encoder{enc}, nil
}

// Compress writes one frame for src into dst and returns its length. ok is
// false when it does not fit into len(dst): then compression does not pay.
// The bytes of dst up to its capacity may be overwritten; nothing is allocated
// if that is at least [Bound] of len(src).
func (e *Encoder) Compress(dst, src []byte) (n int, ok bool) {
	out := e.enc.EncodeAll(src, dst[:0])
	if len(out) > len(dst) {
		return 0, false
	}
	if len(dst) > 0 && &out[0] != &dst[0] { // outgrew cap(dst) for a moment
		copy(dst, out)
	}
	return len(out), true
}

// Close releases the encoder.
func (e *Encoder) Close() { e.enc = nil }

// Decoder decompresses buffers.
type Decoder struct{ dec *zstd.Decoder }

// NewDecoder returns a decoder. Close it.
func NewDecoder() (*Decoder, error) {
	dec, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderLowmem(true),
		// The window costs no memory here: matches are copied within dst.
		zstd.WithDecoderMaxWindow(1<<41),
		zstd.WithDecodeAllCapLimit(true),
	)
	if err != nil {
		return nil, fmt.Errorf("zstd decoder: %w", err)
	}
	return &Decoder{dec}, nil
}

// Decompress writes the plain data of all frames in src into dst and returns
// its length. It returns [ErrTooLarge] when there is more than len(dst), and
// otherwise an error wrapping [ErrCorrupt]; dst may then hold anything.
func (d *Decoder) Decompress(dst, src []byte) (n int, err error) {
	if len(src) == 0 {
		return 0, fmt.Errorf("%w: no frame", ErrCorrupt)
	}
	out, err := d.dec.DecodeAll(src, dst[:0:len(dst)])
	switch {
	case err == nil && len(out) <= len(dst):
		return len(out), nil
	case err == nil, errors.Is(err, zstd.ErrDecoderSizeExceeded), d.overflows(src, len(dst)):
		return 0, ErrTooLarge
	}
	return 0, fmt.Errorf("%w: %w", ErrCorrupt, err)
}

// overflows reports whether more than room bytes come out of src. The library
// gives a block that does not fit the same error as a damaged one; with a
// block more of room, a sound one succeeds.
func (d *Decoder) overflows(src []byte, room int) bool {
	out, _ := d.dec.DecodeAll(src, make([]byte, 0, room+maxBlock))
	return len(out) > room
}

// Close releases the decoder.
func (d *Decoder) Close() { d.dec.Close() }
