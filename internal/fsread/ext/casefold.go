package ext

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// utf8Encoding is the only one that directories which ignore case can have:
// UTF-8 of Unicode 12.1.
const utf8Encoding = 1

// fold gives two names the same form if a directory that ignores case takes them
// for one: decomposed, in lower case, without what is not seen. What is no UTF-8
// stays as it is.
func fold(name string) string {
	if !utf8.ValidString(name) {
		return name
	}
	seen := strings.Map(func(r rune) rune {
		if unseen(r) {
			return -1
		}
		return r
	}, norm.NFD.String(name))
	return norm.NFD.String(cases.Fold().String(seen))
}

// unseen is Unicode's Default_Ignorable_Code_Point.
func unseen(r rune) bool {
	switch {
	case unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector):
		return true
	case !unicode.Is(unicode.Cf, r):
		return false
	case r >= 0xfff9 && r <= 0xfffb, r >= 0x13430 && r <= 0x13440:
		return false
	}
	return !unicode.Is(unicode.Prepended_Concatenation_Mark, r)
}
