package fsread

import (
	"unicode/utf16"
	"unicode/utf8"
)

// UTF16 writes UTF-16 as UTF-8, and surrogates without their other half as if
// they were characters.
func UTF16(units []uint16) string {
	b := make([]byte, 0, len(units)*3)
	for i := 0; i < len(units); i++ {
		u := rune(units[i])
		switch {
		case !utf16.IsSurrogate(u):
			b = utf8.AppendRune(b, u)
		case i+1 < len(units) && utf16.DecodeRune(u, rune(units[i+1])) != utf8.RuneError:
			b = utf8.AppendRune(b, utf16.DecodeRune(u, rune(units[i+1])))
			i++
		default:
			b = append(b, 0xe0|byte(u>>12), 0x80|byte(u>>6)&0x3f, 0x80|byte(u)&0x3f)
		}
	}
	return string(b)
}
