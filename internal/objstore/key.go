package objstore

import (
	"strings"
	"unicode/utf8"
)

// badKey says what is wrong with a key.
func badKey(key string) string {
	switch {
	case key == "":
		return "is empty"
	case len(key) > MaxKey:
		return "is longer than 1024 bytes"
	case !utf8.ValidString(key):
		return "is not UTF-8"
	}
	for _, r := range key {
		if r < 0x20 || r == 0x7f {
			return "has a control character"
		}
	}
	for part := range strings.SplitSeq(key, "/") {
		switch part {
		case "":
			return "has an empty part"
		case ".", "..":
			return "has a part that is a directory to some"
		}
	}
	return ""
}
