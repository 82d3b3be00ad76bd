package squashfs

// unlz4 decompresses a block of LZ4: sequences of literals and, but for the last, of a
// match. A token has both lengths, 15 goes on in further bytes until one is not 255;
// the distance of the match has 2 bytes, and 4 more are copied than its length says.
func unlz4(dst, src []byte) (n int, ok bool) {
	for len(src) > 0 {
		token := int(src[0])
		src = src[1:]
		literals, rest, ok := lz4Length(token>>4, src)
		if !ok || literals > len(rest) || literals > len(dst)-n {
			return 0, false
		}
		n += copy(dst[n:], rest[:literals])
		if src = rest[literals:]; len(src) == 0 {
			return n, token&15 == 0
		}
		if len(src) < 2 {
			return 0, false
		}
		back := int(le.Uint16(src))
		length, rest, ok := lz4Length(token&15, src[2:])
		length += 4
		if !ok || back == 0 || back > n || length > len(dst)-n {
			return 0, false
		}
		src = rest
		for range length {
			dst[n] = dst[n-back]
			n++
		}
	}
	return 0, false
}

func lz4Length(n int, src []byte) (length int, rest []byte, ok bool) {
	if n < 15 {
		return n, src, true
	}
	for len(src) > 0 {
		b := src[0]
		n, src = n+int(b), src[1:]
		if b < 255 {
			return n, src, true
		}
	}
	return 0, nil, false
}
