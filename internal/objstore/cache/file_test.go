package cache

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

func file(tb testing.TB, body []byte, h head) []byte {
	tb.Helper()
	var sums []byte
	for off := 0; off < len(body); off += blockSize {
		sums = sumOf(sums, body[off:min(off+blockSize, len(body))])
	}
	b, err := appendEnd(body, sums, h)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// What reads as the end of a file is what somebody wrote as one.
func FuzzTheEndOfAFile(f *testing.F) {
	f.Add(file(f, []byte("0123456789"), head{"some/key", 20, "tag", time.Unix(1, 2).UTC(), 5, 10}))
	f.Add(file(f, nil, head{Key: "empty", Modified: time.Unix(0, 0).UTC()}))
	f.Add(file(f, make([]byte, 100_000), head{"o", 100_000, "t", time.Unix(0, 0).UTC(), 0, 100_000}))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, sums, err := readEnd(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			if !errors.Is(err, errBad) {
				t.Fatal(err)
			}
			return
		}
		if h.N > int64(len(b)) || int64(len(sums)) != blocks(h.N)*sumSize {
			t.Fatalf("%+v with %d bytes of sums in a file of %d", h, len(sums), len(b))
		}
		again, err := appendEnd(bytes.Clone(b[:h.N]), sums, h)
		if err != nil {
			t.Fatal(err)
		}
		h2, _, err := readEnd(bytes.NewReader(again), int64(len(again)))
		if err != nil || h2.info().Key != h.Key || h2.Off != h.Off || h2.N != h.N {
			t.Fatalf("%+v became %+v, %v", h, h2, err)
		}
	})
}
