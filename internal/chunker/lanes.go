package chunker

import "math/bits"

// The hash of a place is a function of the 64 bytes before it and of nothing
// else, while one step of the hash waits for the step before. So a block is
// divided into lanes that are hashed side by side: the processor does four
// steps in the time of one.
const (
	lanes    = 4
	laneSize = 4096 // bytes; each lane costs 64 steps to warm up
	block    = lanes * laneSize
)

// quiet reports whether no chunk ends within the block of bytes that starts at
// b[window], and returns the hash behind it. h is the hash before it. b holds
// the window before the block too. When a chunk may end in it the hash is
// worthless, and the caller looks for the place step by step.
//
// The hashes are kept inverted: then a chunk can end only where the bits of
// ends are all zero, which is one instruction to test.
func quiet(b *[window + block]byte, h, ends uint32) (uint32, bool) {
	g0, g1, g2, g3 := ^h, ^uint32(0), ^uint32(0), ^uint32(0)
	for i := range window {
		g1 = bits.RotateLeft32(g1, 1) ^ table[b[laneSize+i]]
		g2 = bits.RotateLeft32(g2, 1) ^ table[b[2*laneSize+i]]
		g3 = bits.RotateLeft32(g3, 1) ^ table[b[3*laneSize+i]]
	}
	for i := range laneSize {
		g0 = bits.RotateLeft32(g0, 1) ^ table[b[i]] ^ table[b[i+window]]
		g1 = bits.RotateLeft32(g1, 1) ^ table[b[i+laneSize]] ^ table[b[i+laneSize+window]]
		g2 = bits.RotateLeft32(g2, 1) ^ table[b[i+2*laneSize]] ^ table[b[i+2*laneSize+window]]
		g3 = bits.RotateLeft32(g3, 1) ^ table[b[i+3*laneSize]] ^ table[b[i+3*laneSize+window]]
		if g0&ends == 0 || g1&ends == 0 || g2&ends == 0 || g3&ends == 0 {
			return 0, false
		}
	}
	return ^g3, true
}
