//go:build libzstd && cgo

package zstd

/*
#include <stddef.h>
#include <stdint.h>
#include <string.h>

// The library is compiled by the package imported below; these are the
// functions of its public, stable API that are used here. They are declared
// weak because cgo links each package once on its own, where they are missing.
typedef struct ZSTD_CCtx_s ZSTD_CCtx;
typedef struct ZSTD_DCtx_s ZSTD_DCtx;
#define WEAK __attribute__((weak)) extern
WEAK ZSTD_CCtx *ZSTD_createCCtx(void);
WEAK size_t ZSTD_freeCCtx(ZSTD_CCtx *);
WEAK size_t ZSTD_CCtx_setParameter(ZSTD_CCtx *, int, int);
WEAK size_t ZSTD_compress2(ZSTD_CCtx *, void *, size_t, const void *, size_t);
WEAK ZSTD_DCtx *ZSTD_createDCtx(void);
WEAK size_t ZSTD_freeDCtx(ZSTD_DCtx *);
WEAK size_t ZSTD_decompressDCtx(ZSTD_DCtx *, void *, size_t, const void *, size_t);
WEAK size_t ZSTD_findFrameCompressedSize(const void *, size_t);
WEAK unsigned ZSTD_isError(size_t);
WEAK int ZSTD_getErrorCode(size_t);
WEAK const char *ZSTD_getErrorName(size_t);

enum { param_level = 100, param_window_log = 101, param_hash_log = 102 };
enum { err_prefix_unknown = 10, err_dst_too_small = 70, err_dst_null = 74 };

static size_t hf_error(int code) { return (size_t)-code; }

static ZSTD_CCtx *hf_new_encoder(int level, int window_log, int hash_log) {
	ZSTD_CCtx *c = ZSTD_createCCtx();
	if (c == NULL)
		return NULL;
	if (ZSTD_isError(ZSTD_CCtx_setParameter(c, param_level, level)) ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(c, param_window_log, window_log)) ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(c, param_hash_log, hash_log))) {
		ZSTD_freeCCtx(c);
		return NULL;
	}
	return c;
}

// hf_decompress decodes frame by frame, because the library would also hand
// frames of its own old formats to decoders that nobody looks after any more.
static size_t hf_decompress(ZSTD_DCtx *d, uint8_t *dst, size_t room, const uint8_t *src, size_t left) {
	size_t total = 0;
	while (left > 0) {
		if (left < 4)
			return hf_error(err_prefix_unknown);
		uint32_t magic = src[0] | src[1] << 8 | src[2] << 16 | (uint32_t)src[3] << 24;
		if (magic != 0xFD2FB528u && (magic & 0xFFFFFFF0u) != 0x184D2A50u)
			return hf_error(err_prefix_unknown);
		size_t frame = ZSTD_findFrameCompressedSize(src, left);
		if (ZSTD_isError(frame))
			return frame;
		size_t n = ZSTD_decompressDCtx(d, dst + total, room - total, src, frame);
		if (ZSTD_isError(n))
			return n;
		total += n;
		src += frame;
		left -= frame;
	}
	return total;
}

#cgo noescape ZSTD_compress2
#cgo nocallback ZSTD_compress2
#cgo noescape hf_decompress
#cgo nocallback hf_decompress
#cgo nocallback ZSTD_isError
*/
import "C"

import (
	"errors"
	"fmt"
	"unsafe"

	_ "github.com/DataDog/zstd" // compiles and links the C sources
)

// Backend names the library behind this package.
const Backend = "libzstd 1.5.7 (cgo)"

// Level 1 with twice its window. On a disk of programs, source and packages a
// table of 2^15 makes chunks 1 % smaller and takes 4 % longer; skipping ahead
// faster (a target length) gains a fifth in time and costs 11 % in space.
const (
	level     = 1
	windowLog = 20
	hashLog   = 14
)

// Encoder compresses buffers.
type Encoder struct{ c *C.ZSTD_CCtx }

// NewEncoder returns an encoder. Close it: it holds memory outside the Go heap.
func NewEncoder() (*Encoder, error) {
	c := C.hf_new_encoder(level, windowLog, hashLog)
	if c == nil {
		return nil, errors.New("zstd encoder: no memory for a context")
	}
	return &Encoder{c}, nil
}

// Compress writes one frame for src into dst and returns its length. ok is
// false when it does not fit into len(dst): then compression does not pay.
// The bytes of dst up to its capacity may be overwritten; with less than
// [Bound] of len(src) it may refuse what would just fit.
func (e *Encoder) Compress(dst, src []byte) (n int, ok bool) {
	r := C.ZSTD_compress2(e.c,
		unsafe.Pointer(unsafe.SliceData(dst)), C.size_t(cap(dst)),
		unsafe.Pointer(unsafe.SliceData(src)), C.size_t(len(src)))
	if C.ZSTD_isError(r) != 0 || int(r) > len(dst) {
		return 0, false
	}
	return int(r), true
}

// Close releases the encoder.
func (e *Encoder) Close() {
	C.ZSTD_freeCCtx(e.c)
	e.c = nil
}

// Decoder decompresses buffers.
type Decoder struct{ d *C.ZSTD_DCtx }

// NewDecoder returns a decoder. Close it: it holds memory outside the Go heap.
func NewDecoder() (*Decoder, error) {
	d := C.ZSTD_createDCtx()
	if d == nil {
		return nil, errors.New("zstd decoder: no memory for a context")
	}
	return &Decoder{d}, nil
}

// Decompress writes the plain data of all frames in src into dst and returns
// its length. It returns [ErrTooLarge] when there is more than len(dst), and
// otherwise an error wrapping [ErrCorrupt]; dst may then hold anything.
func (d *Decoder) Decompress(dst, src []byte) (n int, err error) {
	if len(src) == 0 {
		return 0, fmt.Errorf("%w: no frame", ErrCorrupt)
	}
	r := C.hf_decompress(d.d,
		(*C.uint8_t)(unsafe.SliceData(dst)), C.size_t(len(dst)),
		(*C.uint8_t)(unsafe.SliceData(src)), C.size_t(len(src)))
	if C.ZSTD_isError(r) == 0 {
		return int(r), nil
	}
	switch C.ZSTD_getErrorCode(r) {
	case C.err_dst_too_small, C.err_dst_null:
		return 0, ErrTooLarge
	}
	return 0, fmt.Errorf("%w: %s", ErrCorrupt, C.GoString(C.ZSTD_getErrorName(r)))
}

// Close releases the decoder.
func (d *Decoder) Close() {
	C.ZSTD_freeDCtx(d.d)
	d.d = nil
}
