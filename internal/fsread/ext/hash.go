package ext

import "math/bits"

// Kinds of hashes of names.
const (
	hashLegacy  = 0
	hashHalfMD4 = 1
	hashTEA     = 2
	hashSign    = 3 // more: of bytes without sign
	hashKinds   = 6 // the next one is SipHash, with a key that only encryption has
)

// hashing is how a file system hashes names.
type hashing struct {
	seed     [4]uint32
	unsigned bool // bytes have no sign, where the kind does not say it
}

// of hashes a name; ok is false for an unknown kind.
func (h hashing) of(kind byte, name string) (hash uint32, ok bool) {
	if kind >= hashKinds {
		return 0, false
	}
	unsigned := h.unsigned || kind >= hashSign
	state := [4]uint32{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476}
	if h.seed != [4]uint32{} {
		state = h.seed
	}
	switch kind % hashSign {
	case hashLegacy:
		hash = legacy(name, unsigned)
	case hashHalfMD4:
		for ; ; name = name[32:] {
			var in [8]uint32
			words(in[:], name, unsigned)
			halfMD4(&state, &in)
			if len(name) <= 32 {
				break
			}
		}
		hash = state[1]
	case hashTEA:
		for ; ; name = name[16:] {
			var in [4]uint32
			words(in[:], name, unsigned)
			tea(&state, &in)
			if len(name) <= 16 {
				break
			}
		}
		hash = state[0]
	}
	hash &^= 1 // the lowest bit says in a tree that a hash goes on in the next leaf
	if hash == 0xfffffffe {
		hash = 0xfffffffc // the end of a directory has that one
	}
	return hash, true
}

func char(c byte, unsigned bool) uint32 {
	if unsigned {
		return uint32(c)
	}
	return uint32(int32(int8(c)))
}

func legacy(name string, unsigned bool) uint32 {
	a, b := uint32(0x12a3fe2d), uint32(0x37abe8f9)
	for i := range len(name) {
		h := b + (a ^ char(name[i], unsigned)*7152373)
		if h&0x80000000 != 0 {
			h -= 0x7fffffff
		}
		a, b = h, a
	}
	return a << 1
}

// words packs the bytes of a name, four to a word, and fills up with its length.
func words(to []uint32, name string, unsigned bool) {
	pad := uint32(len(name)) | uint32(len(name))<<8
	pad |= pad << 16
	name = name[:min(len(name), 4*len(to))]
	for i := range to {
		to[i] = pad
		for j := 4 * i; j < min(len(name), 4*i+4); j++ {
			to[i] = char(name[j], unsigned) + to[i]<<8
		}
	}
}

func tea(state *[4]uint32, in *[4]uint32) {
	const delta = 0x9e3779b9
	a, b := state[0], state[1]
	var sum uint32
	for range 16 {
		sum += delta
		a += (b<<4 + in[0]) ^ (b + sum) ^ (b>>5 + in[1])
		b += (a<<4 + in[2]) ^ (a + sum) ^ (a>>5 + in[3])
	}
	state[0] += a
	state[1] += b
}

// halfMD4 is MD4 with rounds of eight steps.
func halfMD4(state *[4]uint32, in *[8]uint32) {
	const k2, k3 = 0x5a827999, 0x6ed9eba1
	rounds := [3]struct {
		f     func(x, y, z uint32) uint32
		k     uint32
		order [8]int
		shift [4]int
	}{
		{func(x, y, z uint32) uint32 { return z ^ x&(y^z) }, 0, [8]int{0, 1, 2, 3, 4, 5, 6, 7}, [4]int{3, 7, 11, 19}},
		{func(x, y, z uint32) uint32 { return x&y + (x^y)&z }, k2, [8]int{1, 3, 5, 7, 0, 2, 4, 6}, [4]int{3, 5, 9, 13}},
		{func(x, y, z uint32) uint32 { return x ^ y ^ z }, k3, [8]int{3, 7, 2, 6, 1, 5, 0, 4}, [4]int{3, 9, 11, 15}},
	}
	a, b, c, d := state[0], state[1], state[2], state[3]
	for _, r := range rounds {
		for i, word := range r.order {
			a = bits.RotateLeft32(a+r.f(b, c, d)+in[word]+r.k, r.shift[i%4])
			a, b, c, d = d, a, b, c
		}
	}
	state[0] += a
	state[1] += b
	state[2] += c
	state[3] += d
}
