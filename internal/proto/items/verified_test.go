package items

import "testing"

func TestLineOfAVerificationIsReadBack(t *testing.T) {
	want := Verified{Snapshots: 3, Chunks: 70, Bytes: 1 << 40}
	for _, line := range []string{want.String(), "2026-11-29T17:55:57+00:00: " + want.String()} {
		if got, ok := ParseVerified(line); !ok || got != want {
			t.Errorf("%q: %+v, %v", line, got, ok)
		}
	}
}

func TestOtherLinesOfALogAreNotTakenForIt(t *testing.T) {
	for _, line := range []string{
		"", "TASK OK", "verify tank:vm/100/2024-06-05T12:26:40Z", Verified{}.String() + " ", "x" + Verified{}.String(),
		"verified -1 snapshots: 0 chunks", "verified 1 snapshots: 99999999999999999999 chunks, 1 bytes as stored",
	} {
		if v, ok := ParseVerified(line); ok {
			t.Errorf("%q is taken for %+v", line, v)
		}
	}
}
