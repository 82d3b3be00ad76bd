package backupserver

import (
	"sync"

	"github.com/holdfast-backup/holdfast/internal/digest"
)

// pairs hashes chunks of different workers two at a time, which takes little
// longer than one does. A chunk waits for another one that is being decoded and
// for nothing else, so never for a client.
type pairs struct {
	mu     sync.Mutex
	coming int   // chunks that are being decoded
	first  *half // the one that waits; nil: none
}

// half is a chunk that waits for another.
type half struct {
	data []byte
	done chan struct{}
	sum  digest.Digest
	both bool // sum is right; if not, there is no other one
}

// begin announces a chunk. Its digest is asked for, or it is given up.
func (p *pairs) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.coming++
}

// giveUp takes the announcement back.
func (p *pairs) giveUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.coming--; p.coming == 0 && p.first != nil {
		close(p.first.done)
		p.first = nil
	}
}

// digest returns the digest of the announced chunk.
func (p *pairs) digest(data []byte) digest.Digest {
	p.mu.Lock()
	p.coming--
	other := p.first
	if other != nil {
		p.first = nil
		p.mu.Unlock()
		var sum digest.Digest
		other.sum, sum = digest.Of2(other.data, data)
		other.both = true
		close(other.done)
		return sum
	}
	if p.coming == 0 {
		p.mu.Unlock()
		return digest.Of(data)
	}
	h := &half{data: data, done: make(chan struct{})}
	p.first = h
	p.mu.Unlock()
	if <-h.done; h.both {
		return h.sum
	}
	return digest.Of(data)
}
