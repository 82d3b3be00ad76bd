package fat

import "testing"

func TestALongNameIsForTheEntryWithItsChecksumOnly(t *testing.T) {
	rec := make([]byte, 32)
	copy(rec, "LONGNA~1TXT")
	var sum byte
	for _, c := range rec[:11] {
		sum = sum>>1 | sum<<7
		sum += c
	}
	part := make([]byte, 32)
	part[0], part[11], part[13] = 0x41, attrLong, sum
	copy(part[1:], "n\x00a\x00m\x00e\x00\x00\x00")
	for _, c := range []struct {
		change func(p []byte)
		name   string
		ok     bool
	}{
		{func([]byte) {}, "name", true},
		{func(p []byte) { p[13]++ }, "", false},
		{func(p []byte) { p[0] = 0x42 }, "", false},
		{func(p []byte) { p[0] = 0x01 }, "", false},
	} {
		p := append([]byte{}, part...)
		c.change(p)
		var l longName
		l.add(p)
		if name, ok := l.take(rec); name != c.name || ok != c.ok {
			t.Errorf("% x: %q, %v", p[:14], name, ok)
		}
	}
}

func TestShortNamesKeepTheCaseThatWindowsRemembered(t *testing.T) {
	rec := make([]byte, 32)
	copy(rec, "README  TXT")
	for bits, want := range map[byte]string{0: "README.TXT", 0x08: "readme.TXT", 0x10: "README.txt", 0x18: "readme.txt"} {
		if rec[12] = bits; shortName(rec) != want {
			t.Errorf("%#x: %q, want %q", bits, shortName(rec), want)
		}
	}
	copy(rec, "\x05\x81      ")
	if rec[12] = 0; shortName(rec) != "σü.TXT" {
		t.Errorf("code page 437: %q", shortName(rec))
	}
}
