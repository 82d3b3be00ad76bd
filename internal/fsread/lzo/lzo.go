// Package lzo decompresses LZO1X, which btrfs and squashfs have for blocks of data.
//
// # Layout
//
// A row of instructions: literals to copy, or a distance and a length of what came
// before, until the one that says the end.
//
// # Source
//
// Linux: Documentation/staging/lzo.rst.
package lzo

import "encoding/binary"

// Decompress writes what src holds into dst, and says how much came out. It is not ok
// if src is no LZO1X from its first to its last byte, or has more than fits into dst.
func Decompress(dst, src []byte) (n int, ok bool) {
	d := decoder{dst: dst, src: src}
	if len(src) == 0 {
		return 0, false
	}
	state := 0 // literals that followed the last match, 4: more
	if first := int(src[0]); first > 17 {
		d.at = 1
		if !d.literals(first - 17) {
			return 0, false
		}
		state = min(first-17, 4)
	}
	for d.at < len(d.src) {
		op := int(d.src[d.at])
		d.at++
		var back, length, follow int
		switch {
		case op >= 64:
			length = op>>5 + 1
			b, ok := d.next()
			if !ok {
				return 0, false
			}
			back = b<<3 + op>>2&7 + 1
			follow = op & 3
		case op >= 32:
			if length, ok = d.length(op&31, 31); !ok {
				return 0, false
			}
			v, ok := d.word()
			if !ok {
				return 0, false
			}
			length, back, follow = length+2, v>>2+1, v&3
		case op >= 16:
			if length, ok = d.length(op&7, 7); !ok {
				return 0, false
			}
			v, ok := d.word()
			if !ok {
				return 0, false
			}
			length, back, follow = length+2, op&8<<11+v>>2, v&3
			if back == 0 { // the end
				return d.n, length == 3 && d.at == len(d.src)
			}
			back += 0x4000
		case state == 0:
			if length, ok = d.length(op, 15); !ok || !d.literals(length+3) {
				return 0, false
			}
			state = 4
			continue
		default:
			b, ok := d.next()
			if !ok {
				return 0, false
			}
			back, length, follow = b<<2+op>>2+1, 2, op&3
			if state == 4 {
				back, length = back+0x800, 3
			}
		}
		if !d.match(back, length) || !d.literals(follow) {
			return 0, false
		}
		state = follow
	}
	return 0, false
}

// decoder is a decompression on its way.
type decoder struct {
	dst, src []byte
	at, n    int
}

func (d *decoder) next() (int, bool) {
	if d.at >= len(d.src) {
		return 0, false
	}
	d.at++
	return int(d.src[d.at-1]), true
}

func (d *decoder) word() (int, bool) {
	if d.at+2 > len(d.src) {
		return 0, false
	}
	d.at += 2
	return int(binary.LittleEndian.Uint16(d.src[d.at-2:])), true
}

// length is one that goes on in further bytes if it is 0: each zero is 255 more.
func (d *decoder) length(n, most int) (int, bool) {
	if n > 0 {
		return n, true
	}
	for {
		b, ok := d.next()
		if !ok || n > len(d.dst) {
			return 0, false
		}
		if b > 0 {
			return n + b + most, true
		}
		n += 255
	}
}

func (d *decoder) literals(n int) bool {
	if n > len(d.src)-d.at || n > len(d.dst)-d.n {
		return false
	}
	d.n += copy(d.dst[d.n:], d.src[d.at:d.at+n])
	d.at += n
	return true
}

func (d *decoder) match(back, n int) bool {
	if back > d.n || n > len(d.dst)-d.n {
		return false
	}
	for ; n > 0; n-- {
		d.dst[d.n] = d.dst[d.n-back]
		d.n++
	}
	return true
}
