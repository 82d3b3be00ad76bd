package bucket

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/format/packindex"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/extsort"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/lookup"
	"github.com/holdfast-backup/holdfast/internal/repo/digestset"
)

// chunks is where the chunks of a session go and are found.
type chunks struct {
	view *lookup.View // what others stored, as it was when the session began

	mu     sync.Mutex
	pack   *packer         // nil: a refill has nothing to store
	found  *extsort.Sorter // packindex entries of chunks in packs that are not of the packer
	known  *digestset.Set  // chunks in found
	absent *digestset.Set  // what somebody asked for in vain, lately
}

const (
	foundMost = 1 << 20 // digests of chunks that were found: 16 MiB
	askedMost = 1 << 12 // answers that are remembered between Has and Put
)

func newChunks(view *lookup.View, p *packer) *chunks {
	return &chunks{view: view, pack: p, found: extsort.New(packindex.EntrySize, sortBytes), known: digestset.New(foundMost), absent: digestset.New(askedMost)}
}

// has looks a chunk up, and remembers where it lies.
func (c *chunks) has(ctx context.Context, d digest.Digest) (bool, error) {
	if c.knows(d) {
		return true, nil
	}
	at, ok, err := c.view.Find(ctx, d)
	if err != nil {
		return false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !ok {
		c.absent.Add(d)
		return false, nil
	}
	c.known.Add(d)
	return true, c.found.Add(packindex.Entry{Digest: d, Location: at}.Append(nil))
}

// knows reports whether a chunk was stored or found by the session. It may have
// forgotten.
func (c *chunks) knows(d digest.Digest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known.Has(d) || c.pack != nil && c.pack.has(d)
}

func (c *chunks) packer() *packer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pack
}

// stored reports whether a chunk is there, for one that wants to store it: who has
// just been told that it is not need not ask again.
func (c *chunks) stored(ctx context.Context, d digest.Digest) (bool, error) {
	c.mu.Lock()
	absent := c.absent.Has(d)
	c.mu.Unlock()
	if absent {
		return false, nil
	}
	return c.has(ctx, d)
}

// put stores a chunk, unless it is there.
func (c *chunks) put(ctx context.Context, d digest.Digest, raw []byte) (bool, error) {
	if there, err := c.stored(ctx, d); there || err != nil {
		return false, err
	}
	return c.packer().put(ctx, d, raw)
}

// sorted calls f with the places of all chunks that the session stored, and that it
// found. Nobody adds any meanwhile.
func (c *chunks) sorted(f func(own, found *cursor) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	own, err := newCursor(c.placed())
	if err != nil {
		return err
	}
	defer own.stop()
	found, err := newCursor(c.found)
	if err != nil {
		return err
	}
	defer found.stop()
	return f(own, found)
}

func (c *chunks) placed() *extsort.Sorter {
	if c.pack == nil {
		return extsort.New(packindex.EntrySize, 0)
	}
	return c.pack.placed
}

// use makes chunks go to a packer. There is none.
func (c *chunks) use(p *packer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pack = p
}

// retire lets go of a packer that has stored everything: its chunks are like those
// of others from then on.
func (c *chunks) retire() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for rec, err := range c.pack.placed.All() {
		if err != nil {
			return err
		}
		if err := c.found.Add(rec); err != nil {
			return err
		}
		c.known.Add(digest.Digest(rec))
	}
	err := c.pack.close()
	c.pack = nil
	return err
}

// packSize is the length of a pack of the session.
func (c *chunks) packSize(id pack.ID) (uint32, bool) {
	if p := c.packer(); p != nil {
		return p.packSize(id)
	}
	return 0, false
}

func (c *chunks) close() error {
	var err error
	if p := c.packer(); p != nil {
		err = p.close()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if ferr := c.found.Close(); ferr != nil {
		err = errors.Join(err, fmt.Errorf("temporary file: %w", ferr))
	}
	return err
}
