package zero_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/zero"
)

func TestIsFindsOneByteAnywhere(t *testing.T) {
	for _, n := range []int{0, 1, 4095, 8192, 8193, 70_000} {
		b := make([]byte, n)
		if !zero.Is(b) {
			t.Errorf("%d zero bytes: not zero", n)
		}
		for _, at := range []int{0, 1, n / 2, n - 2, n - 1} {
			if at < 0 || at >= n {
				continue
			}
			b[at] = 1
			if zero.Is(b) {
				t.Errorf("byte %d of %d not found", at, n)
			}
			b[at] = 0
		}
	}
}

// The runs of a buffer cover it, zero runs are zero and long enough, and no
// long run of zero blocks hides in a run of data.
func TestRunsPartitionTheBuffer(t *testing.T) {
	const shortest = 4 * zero.BlockSize
	rnd := rand.New(rand.NewPCG(1, 2))
	for round := range 200 {
		b := make([]byte, rnd.IntN(40*zero.BlockSize))
		for i := 0; i < len(b); i += zero.BlockSize {
			if rnd.IntN(3) == 0 {
				b[min(i+rnd.IntN(zero.BlockSize), len(b)-1)] = 1
			}
		}
		for off := 0; off < len(b); {
			n, isZero := zero.Run(b[off:], shortest)
			run := b[off : off+n]
			switch {
			case n <= 0:
				t.Fatalf("round %d: empty run at %d of %d", round, off, len(b))
			case isZero && (!zero.Is(run) || n < shortest && off+n < len(b)):
				t.Fatalf("round %d: bad zero run [%d,+%d)", round, off, n)
			case !isZero && zero.Is(run):
				t.Fatalf("round %d: zero run [%d,+%d) taken for data", round, off, n)
			}
			if !isZero {
				for i := 0; i+shortest <= n; i += zero.BlockSize {
					if zero.Is(run[i : i+shortest]) {
						t.Fatalf("round %d: zeros at %d inside data", round, off+i)
					}
				}
			}
			off += n
		}
	}
}

func BenchmarkIs(b *testing.B) {
	for _, size := range []int{4 << 10, 4 << 20} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			buf := make([]byte, size)
			b.SetBytes(int64(size))
			for b.Loop() {
				if !zero.Is(buf) {
					b.Fatal("not zero")
				}
			}
		})
	}
}
