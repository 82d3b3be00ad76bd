package lzo

import "testing"

// Whatever is decompressed, it ends, and in the room that it has.
func FuzzDecompress(f *testing.F) {
	f.Add([]byte{21, 'a', 'b', 'c', 'd', 17, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		out := make([]byte, 4096)
		if n, ok := Decompress(out, b); ok && (n < 0 || n > len(out)) {
			t.Errorf("%d bytes", n)
		}
	})
}

func TestLiteralsAndMatchesAreUnpacked(t *testing.T) {
	out := make([]byte, 16)
	// 4 literals, 5 bytes from 4 before, the end
	n, ok := Decompress(out, []byte{21, 'a', 'b', 'c', 'd', 0x80 | 3<<2, 0, 17, 0, 0})
	if !ok || string(out[:n]) != "abcdabcda" {
		t.Errorf("%q, %v", out[:n], ok)
	}
	if _, ok := Decompress(out[:8], []byte{21, 'a', 'b', 'c', 'd', 0x80 | 3<<2, 0, 17, 0, 0}); ok {
		t.Error("9 bytes fit into 8")
	}
}
