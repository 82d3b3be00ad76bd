// Package zstd compresses and decompresses with Zstandard (RFC 8878): whole
// buffers, and, as frames behind each other, a stream that is written. It is the
// only package that knows a zstd library.
//
// # Two back ends
//
// Without tags, or without cgo, it is klauspost/compress: pure Go, builds
// everywhere. With cgo and the tag "libzstd" it is the reference
// implementation in C, bundled by github.com/DataDog/zstd: faster in both
// directions, and its contexts live outside the Go heap. [Backend] says which
// one was built. Both pass the same tests; their compressed bytes differ.
//
// # What is written and read
//
// [Encoder.Compress] writes one frame with its content size and without a
// checksum, in the effort of zstd's level 1. [Decoder.Decompress] reads one or
// more frames, with or without content size and checksum, and skippable
// frames between them. It reads no dictionary frames and none of the formats
// from before zstd 0.8. The size of its output is limited by the buffer it is
// given, never by what a frame claims.
//
// Encoder and Decoder are reusable and allocate nothing in steady state. They
// are not safe for concurrent use: each worker owns one and closes it. After
// Close they must not be used.
package zstd

import "errors"

// ErrTooLarge is returned when the plain data is longer than the buffer for it.
var ErrTooLarge = errors.New("zstd: more data than expected")

// ErrCorrupt is wrapped when the input is not a sequence of zstd frames, or is
// damaged.
var ErrCorrupt = errors.New("zstd: damaged data")

// maxBlock is the largest piece a frame is made of, in bytes of plain data.
const maxBlock = 128 << 10

// Bound returns the capacity at which a buffer holds the frame of any n bytes.
// Buffers for [Encoder.Compress] should have it.
func Bound(n int) int {
	// Blocks that do not shrink are stored, with a header of 3 bytes. The rest
	// is the frame header, and room for a block that is given up half way.
	return n + 3*(n/maxBlock+1) + 1<<10
}
