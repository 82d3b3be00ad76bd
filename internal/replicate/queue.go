package replicate

import (
	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/fetch"
)

// queue holds chunks back until a distant source has heard of those that come
// behind them. A near source needs none.
type queue struct {
	begin  func(chunk)
	source fetch.Distant // nil: near
	chunks int           // that are held back at most
	bytes  int64         // of them

	held  []chunk
	size  int64 // of held, bytes
	told  int   // of held
	names []digest.Digest
}

// announced is how many chunks are announced at a time.
const announced = 8

func newQueue(snap repo.Snapshot, begin func(chunk)) *queue {
	q := &queue{begin: begin}
	if q.source, _ = snap.(fetch.Distant); q.source != nil {
		q.chunks, q.bytes = q.source.Distance()
	}
	return q
}

// add begins the chunk, or those that are behind far enough.
func (q *queue) add(k chunk) {
	if q.source == nil {
		q.begin(k)
		return
	}
	q.held = append(q.held, k)
	q.size += int64(k.size)
	if len(q.held)-q.told >= announced {
		q.announce()
	}
	for len(q.held) > 1 && (len(q.held) > q.chunks || q.size > q.bytes) {
		q.first()
	}
}

// flush begins all that is held.
func (q *queue) flush() {
	if len(q.held) > 0 {
		q.announce()
	}
	for len(q.held) > 0 {
		q.first()
	}
}

func (q *queue) announce() {
	q.names = q.names[:0]
	for _, k := range q.held[q.told:] {
		q.names = append(q.names, k.digest)
	}
	q.told = len(q.held)
	q.source.Prefetch(q.names)
}

func (q *queue) first() {
	k := q.held[0]
	q.held = q.held[1:]
	q.size -= int64(k.size)
	q.told = max(q.told-1, 0)
	q.begin(k)
}
