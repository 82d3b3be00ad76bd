// Package percent writes bytes as "%XX", with upper-case digits, and reads them.
package percent

import (
	"strconv"
	"strings"
)

// Encode writes each byte of s for which must is true as "%XX".
func Encode(s string, must func(byte) bool) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; must(c) {
			b.Write([]byte{'%', digits[c>>4], digits[c&0xf]})
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// Decode reads "%XX", with digits in either case. A "%" without two digits behind
// it is itself, and so is "+".
func Decode(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
