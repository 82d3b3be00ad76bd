package digest_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
)

func noise(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func checkPair(t *testing.T, a, b, suffix []byte) {
	t.Helper()
	gotA, gotB := digest.Of2Suffix(a, b, suffix)
	wantA, wantB := sha256.Sum256(append(bytes.Clone(a), suffix...)), sha256.Sum256(append(bytes.Clone(b), suffix...))
	if gotA != wantA || gotB != wantB {
		t.Fatalf("%d and %d bytes, suffix of %d:\ngot  %s %s\nwant %x %x", len(a), len(b), len(suffix), gotA, gotB, wantA, wantB)
	}
	if len(suffix) > 0 {
		return
	}
	if gotA, gotB := digest.Of2(a, b); gotA != wantA || gotB != wantB {
		t.Fatalf("Of2 of %d and %d bytes differs from Of2Suffix without one", len(a), len(b))
	}
}

func TestPairsHaveTheDigestsOfTheirParts(t *testing.T) {
	a, b := noise(1, 700), noise(2, 700)
	for n := range 300 { // every length of the tail, one and two blocks of it
		for _, suffix := range []int{0, 1, 32} {
			checkPair(t, a[:n], b[:n], a[100:100+suffix])
		}
	}
	for n := range 140 {
		for m := range 140 {
			checkPair(t, a[n:2*n], b[:m], nil)
			checkPair(t, a[:n], b[m:2*m], b[:32])
		}
	}
}

func TestPairsOfManyBlocksHaveTheDigestsOfTheirParts(t *testing.T) {
	a, b := noise(3, 1<<20+100), noise(4, 1<<20+100)
	lengths := []int{0, 1, 63, 64, 1<<16 - 1, 1 << 16, 1<<16 + 64, 3<<16 + 7, 1 << 20, 1<<20 + 99}
	for _, n := range lengths {
		for _, m := range lengths {
			checkPair(t, a[:n], b[:m], nil)
			checkPair(t, a[1:1+n], b[:m], a[:32]) // unaligned
		}
	}
	checkPair(t, a, a, nil) // the same memory twice
}

func TestPairsDoNotAllocate(t *testing.T) {
	a, b := noise(5, 1000), noise(6, 999)
	if n := testing.AllocsPerRun(100, func() { digest.Of2Suffix(a, b, a[:32]) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func TestLongSuffixIsAMistake(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Fatal("a suffix of 33 bytes is taken")
		}
	}()
	digest.Of2Suffix(nil, nil, make([]byte, 33))
}

func FuzzOf2(f *testing.F) {
	f.Add([]byte("abc"), []byte(""), []byte("key"))
	f.Add(noise(7, 200), noise(8, 256), noise(9, 32))
	f.Fuzz(func(t *testing.T, a, b, suffix []byte) {
		checkPair(t, a, b, suffix[:min(len(suffix), 32)])
	})
}

func BenchmarkPair(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10, 4 << 20} {
		x, y := noise(1, size), noise(2, size)
		b.Run(fmt.Sprintf("size=%dKiB/two calls", size>>10), func(b *testing.B) {
			b.SetBytes(2 * int64(size))
			for b.Loop() {
				digest.Of(x)
				digest.Of(y)
			}
		})
		b.Run(fmt.Sprintf("size=%dKiB/one pair", size>>10), func(b *testing.B) {
			b.SetBytes(2 * int64(size))
			for b.Loop() {
				digest.Of2(x, y)
			}
		})
	}
	x, y := noise(1, 4<<20), noise(2, 1<<20)
	b.Run("size=4MiB and 1MiB/one pair", func(b *testing.B) {
		b.SetBytes(5 << 20)
		for b.Loop() {
			digest.Of2(x, y)
		}
	})
}
