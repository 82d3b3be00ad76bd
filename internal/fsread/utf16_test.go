package fsread_test

import (
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

func TestUTF16BecomesUTF8AndLoneSurrogatesStayTellable(t *testing.T) {
	for want, units := range map[string][]uint16{
		"a文😀":                      {'a', 0x6587, 0xd83d, 0xde00},
		"\xed\xa0\xbdx":            {0xd83d, 'x'},
		"\xed\xb8\x80":             {0xde00},
		"\xed\xa0\xbd\xed\xa0\xbd": {0xd83d, 0xd83d},
	} {
		if got := fsread.UTF16(units); got != want {
			t.Errorf("%x: %q, want %q", units, got, want)
		}
	}
}
