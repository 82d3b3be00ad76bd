package backup

import (
	"sync"

	"github.com/holdfast-backup/holdfast/internal/digest"
)

// maxSeen bounds the memory of seen to about 4 MiB: 256 GiB of distinct chunks
// of 4 MiB. What falls out costs a question to the session.
const maxSeen = 1 << 16

// seen is a bounded set of digests that this session stored or was told of.
type seen struct {
	mu  sync.Mutex
	set map[digest.Digest]struct{}
	max int
}

func newSeen(most int) *seen { return &seen{set: map[digest.Digest]struct{}{}, max: most} }

func (s *seen) has(d digest.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.set[d]
	return ok
}

// add remembers d while there is room: an image repeats early chunks as much
// as late ones, and forgetting would have to be paid for.
func (s *seen) add(d digest.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.set) < s.max {
		s.set[d] = struct{}{}
	}
}
