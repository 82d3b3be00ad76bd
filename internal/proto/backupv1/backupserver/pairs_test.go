package backupserver

import (
	"sync"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
)

func TestChunksHashedTogetherKeepTheirDigests(t *testing.T) {
	var p pairs
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for n := range 50 {
				p.begin()
				if n%7 == i%7 { // a chunk that cannot be decoded
					p.giveUp()
					continue
				}
				data := make([]byte, 100+i*n)
				data[i] = byte(n)
				if got := p.digest(data); got != digest.Of(data) {
					t.Errorf("chunk %d of %d has the digest of another", n, i)
				}
			}
		})
	}
	wg.Wait() // nobody waits for ever
	if p.coming != 0 || p.first != nil {
		t.Errorf("%d chunks are still announced, waiting: %v", p.coming, p.first)
	}
}

func TestChunkDoesNotWaitForOneThatIsGivenUp(t *testing.T) {
	var p pairs
	p.begin()
	p.begin()
	got := make(chan digest.Digest)
	go func() { got <- p.digest([]byte("one")) }()
	p.giveUp()
	if d := <-got; d != digest.Of([]byte("one")) {
		t.Errorf("digest %s", d)
	}
}
