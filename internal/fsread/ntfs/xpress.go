package ntfs

// xpress decompresses XPRESS with Huffman codes, all of one chunk into all of dst: 4 bits
// for the length of each of 512 codes, then symbols. Those below 256 are bytes; of
// others the lower 4 bits are the length of a match less 3, 15: more follows, and the
// upper ones how many bits of its distance follow.
func xpress(dst, src []byte) bool {
	if len(src) < 256 {
		return false
	}
	var lengths [512]byte
	for i, b := range src[:256] {
		lengths[2*i], lengths[2*i+1] = b&15, b>>4
	}
	var c code
	if !c.set(lengths[:]) {
		return false
	}
	in := newBits(src[256:])
	for n := 0; n < len(dst); {
		s, ok := c.next(in)
		if !ok || in.over() {
			return false
		}
		if s < 256 {
			dst[n] = byte(s)
			n++
			continue
		}
		length, far := s&15, s>>4&15
		if length == 15 {
			if length += int(in.byte()); length == 15+255 {
				if length = int(in.word()); length < 15 {
					return false
				}
			}
		}
		back := 1<<far | in.take(far)
		if !repeat(dst, n, back, length+3) {
			return false
		}
		n += length + 3
	}
	return true
}

// repeat copies what came before into dst at n.
func repeat(dst []byte, n, back, length int) bool {
	if back < 1 || back > n || length > len(dst)-n {
		return false
	}
	for i := range length {
		dst[n+i] = dst[n+i-back]
	}
	return true
}
