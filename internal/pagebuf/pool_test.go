package pagebuf

import (
	"sync"
	"testing"
)

func TestPoolKeepsWithinItsLimitAndFreesTheRest(t *testing.T) {
	before := Outstanding()
	p := NewPool(8 << 20)
	var held []*Buffer
	for range 4 {
		b, err := p.Get(3<<20 + 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(b.Bytes()) != 4<<20 {
			t.Fatalf("a buffer of %d bytes", len(b.Bytes()))
		}
		held = append(held, b)
	}
	for _, b := range held {
		p.Put(b)
	}
	p.Put(nil)
	if n := Outstanding() - before; n != 2 {
		t.Errorf("%d buffers are kept, want 2", n)
	}
	again, err := p.Get(100)
	if err != nil {
		t.Fatal(err)
	}
	if n := Outstanding() - before; n != 2 || len(again.Bytes()) != 4<<20 {
		t.Errorf("a small one is not taken from the pool: %d buffers", n)
	}
	p.Trim()
	if n := Outstanding() - before; n != 1 {
		t.Errorf("%d buffers after a trim, want the one that is used", n)
	}
	big, err := p.Get(9 << 20)
	if err != nil {
		t.Fatal(err)
	}
	p.Put(big) // larger than what may be kept
	p.Close()
	p.Put(again)
	if n := Outstanding() - before; n != 0 {
		t.Errorf("%d buffers are left", n)
	}
}

func TestPoolDoesNotWasteLargeBuffersOnSmallNeeds(t *testing.T) {
	p := NewPool(64 << 20)
	defer p.Close()
	big, err := p.Get(16 << 20)
	if err != nil {
		t.Fatal(err)
	}
	p.Put(big)
	small, err := p.Get(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Put(small)
	if len(small.Bytes()) != 1<<20 {
		t.Errorf("got %d bytes", len(small.Bytes()))
	}
}

func TestPoolServesManyAtATime(t *testing.T) {
	before := Outstanding()
	p := NewPool(4 << 20)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 50 {
				b, err := p.Get((i+j)%5<<20 + 1)
				if err != nil {
					t.Error(err)
					return
				}
				b.Bytes()[0] = byte(i) // the race detector looks for a second owner
				p.Put(b)
			}
		})
	}
	wg.Wait()
	p.Close()
	if n := Outstanding() - before; n != 0 {
		t.Errorf("%d buffers are left", n)
	}
}
