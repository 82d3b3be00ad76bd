package nbdclient

import (
	"errors"
	"math/rand/v2"
	"testing"
)

func TestCoverageAgreesWithABitmap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		const size = 24
		var c coverage
		var have [size]bool
		for range 12 {
			from := rnd.IntN(size)
			to := from + 1 + rnd.IntN(min(size-from, 6))
			twice := false
			for _, h := range have[from:to] {
				twice = twice || h
			}
			err := c.add(from, to)
			if (err != nil) != twice {
				t.Fatalf("[%d,%d) of %v: %v", from, to, have, err)
			}
			if err != nil {
				if !errors.Is(err, ErrProtocol) {
					t.Fatal(err)
				}
				continue
			}
			for i := from; i < to; i++ {
				have[i] = true
			}
		}
		all := true
		for _, h := range have {
			all = all && h
		}
		if c.complete(size) != all {
			t.Fatalf("complete is %v for %v: %v", !all, have, c.parts)
		}
	}
}

func TestCoverageBoundsItsMemory(t *testing.T) {
	var c coverage
	for i := range maxFragments {
		if err := c.add(2*i, 2*i+1); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.add(2*maxFragments, 2*maxFragments+1); !errors.Is(err, ErrProtocol) {
		t.Fatalf("err = %v", err)
	}
}
