package ntfs

import "slices"

// Kinds of blocks of LZX, and sizes of its codes in a window of 32 KiB.
const (
	lzxVerbatim = 1
	lzxAligned  = 2
	lzxStored   = 3

	lzxWindow  = 32 << 10
	lzxMain    = 256 + 30*8 // bytes, and 30 classes of distances with 8 lengths
	lzxLengths = 249
	lzxAhead   = 20 // symbols of the code that lengths are written in

	// lzxFileSize is what takes the place of a file's size in addresses.
	lzxFileSize = 12_000_000
)

// lzx is the decompression of one chunk.
type lzx struct {
	in                *bits
	mainLengths       [lzxMain]byte
	longLengths       [lzxLengths]byte
	main, long, align code
	recent            [3]int
}

// unlzx decompresses LZX as images of Windows have it, all of one chunk into all of dst:
// blocks with codes of their own, or stored as they are. Addresses that programs call were
// made absolute before, and become relative again.
func unlzx(dst, src []byte) bool {
	d := &lzx{in: newBits(src), recent: [3]int{1, 1, 1}}
	for n := 0; n < len(dst); {
		kind, size := d.in.take(3), lzxWindow
		if d.in.take(1) == 0 {
			size = d.in.take(16)
		}
		if size == 0 || size > len(dst)-n || d.in.over() {
			return false
		}
		part := dst[:n+size]
		ok := false
		switch kind {
		case lzxVerbatim, lzxAligned:
			ok = d.codes(kind == lzxAligned) && d.block(part, n, kind == lzxAligned)
		case lzxStored:
			ok = d.stored(part[n:])
		}
		if !ok {
			return false
		}
		n += size
	}
	relative(dst)
	return true
}

// codes reads the codes of a block, whose lengths are written as differences to those
// of the block before.
func (d *lzx) codes(aligned bool) bool {
	if aligned {
		var lengths [8]byte
		for i := range lengths {
			lengths[i] = byte(d.in.take(3))
		}
		if !d.align.set(lengths[:]) {
			return false
		}
	}
	if !d.lengths(d.mainLengths[:256]) || !d.lengths(d.mainLengths[256:]) || !d.lengths(d.longLengths[:]) {
		return false
	}
	return d.main.set(d.mainLengths[:]) && d.long.set(d.longLengths[:])
}

// lengths changes lengths of codes, as a code of its own says.
func (d *lzx) lengths(to []byte) bool {
	var own [lzxAhead]byte
	for i := range own {
		own[i] = byte(d.in.take(4))
	}
	var c code
	if !c.set(own[:]) {
		return false
	}
	for i := 0; i < len(to); {
		s, ok := c.next(d.in)
		if !ok || d.in.over() {
			return false
		}
		run, value := 1, 0
		switch s {
		case 17:
			run = 4 + d.in.take(4)
		case 18:
			run = 20 + d.in.take(5)
		case 19:
			run = 4 + d.in.take(1)
			if s, ok = c.next(d.in); !ok || s > 16 {
				return false
			}
			fallthrough
		default:
			value = (int(to[i]) - s + 17) % 17
		}
		for ; run > 0 && i < len(to); i, run = i+1, run-1 {
			to[i] = byte(value)
		}
	}
	return true
}

// block decodes symbols into dst from n on.
func (d *lzx) block(dst []byte, n int, aligned bool) bool {
	for n < len(dst) {
		s, ok := d.main.next(d.in)
		if !ok || d.in.over() {
			return false
		}
		if s < 256 {
			dst[n] = byte(s)
			n++
			continue
		}
		length, class := s&7, (s-256)>>3
		if length == 7 {
			more, ok := d.long.next(d.in)
			if !ok {
				return false
			}
			length += more
		}
		length += 2
		back, ok := d.distance(class, aligned)
		if !ok || !repeat(dst, n, back, length) {
			return false
		}
		n += length
	}
	return true
}

// distance decodes one of a class: the first three are those that were used last.
func (d *lzx) distance(class int, aligned bool) (back int, ok bool) {
	if class < len(d.recent) {
		back = d.recent[class]
		d.recent[class] = d.recent[0]
		d.recent[0] = back
		return back, true
	}
	extra := max(0, class/2-1)
	base := class
	if class >= 4 {
		base = (2 + class&1) << extra
	}
	if aligned && extra >= 3 {
		back = d.in.take(extra-3) << 3
		low, ok := d.align.next(d.in)
		if !ok {
			return 0, false
		}
		back |= low
	} else {
		back = d.in.take(extra)
	}
	back += base - 2
	d.recent = [3]int{back, d.recent[0], d.recent[1]}
	return back, true
}

// stored reads a block that is not compressed: from the next unit of 16 bits on the
// distances that were used last, then bytes, an even number.
func (d *lzx) stored(to []byte) bool {
	in := d.in
	// What was taken ahead is given back; a unit that is whole is left out.
	in.at -= (in.have - 1) / 16 * 2
	if in.at < 0 || in.at+12+len(to) > len(in.src) {
		return false
	}
	for i := range d.recent {
		d.recent[i] = int(le.Uint32(in.src[in.at+4*i:]))
	}
	if slices.ContainsFunc(d.recent[:], func(n int) bool { return n < 1 || n > lzxWindow }) {
		return false
	}
	in.at += 12
	in.at += copy(to, in.src[in.at:])
	in.at += len(to) & 1
	in.buf, in.have = 0, 0
	in.fill()
	return true
}

// relative makes the addresses behind E8, the call of a near function, relative again.
func relative(b []byte) {
	for i := 0; i < len(b)-10; {
		if b[i] != 0xe8 {
			i++
			continue
		}
		p := b[i+1:]
		switch to := int32(le.Uint32(p)); {
		case to >= 0 && to < lzxFileSize:
			le.PutUint32(p, uint32(to-int32(i)))
		case to < 0 && to >= -int32(i):
			le.PutUint32(p, uint32(to+lzxFileSize))
		}
		i += 5
	}
}
