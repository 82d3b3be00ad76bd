package repotest

import (
	"context"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Distant is a snapshot that is far away (fetch.Distant): it counts how many chunks were
// read of which it had not heard, and how many it heard of that were not read.
type Distant struct {
	repo.Snapshot
	Chunks int // how far ahead it wants to hear of them
	Bytes  int64

	mu       sync.Mutex
	waiting  map[digest.Digest]bool
	surprise int
	read     int
	most     int
}

// Distance is what fetch.Distant says.
func (d *Distant) Distance() (chunks int, bytes int64) { return d.Chunks, d.Bytes }

// Prefetch notes what will be read.
func (d *Distant) Prefetch(ds []digest.Digest) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waiting == nil {
		d.waiting = map[digest.Digest]bool{}
	}
	for _, name := range ds {
		d.waiting[name] = true
	}
	d.most = max(d.most, len(d.waiting))
}

// ReadChunk reads a chunk.
func (d *Distant) ReadChunk(ctx context.Context, name digest.Digest, buf []byte) ([]byte, error) {
	d.mu.Lock()
	d.read++
	if !d.waiting[name] {
		d.surprise++
	}
	delete(d.waiting, name)
	d.mu.Unlock()
	return d.Snapshot.ReadChunk(ctx, name, buf)
}

// Heard is how many chunks were read, how many of them without notice, how many were
// announced and not read yet at most, and how many are now.
func (d *Distant) Heard() (read, surprise, most, waiting int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.read, d.surprise, d.most, len(d.waiting)
}
