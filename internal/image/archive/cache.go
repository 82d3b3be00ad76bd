package archive

import (
	"context"
	"io/fs"
	"slices"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/fetch"
)

// cache holds decoded chunks by digest, a fixed number of them. Every user
// holds at most one entry at a time, so waiting for a free one always ends.
type cache struct {
	snap    repo.Snapshot
	x       *fetch.Image
	max     int
	loaders chan *fetch.Reader // nil: not made yet

	mu      sync.Mutex
	freed   sync.Cond // an entry lost its last user
	entries []*entry  // most recently used last; those that failed are gone
	bufs    int       // in entries and with users of failed ones
	users   int
	closed  bool
}

// entry is a chunk that is there, or on its way until ready is closed.
type entry struct {
	digest digest.Digest
	buf    *pagebuf.Buffer
	data   []byte
	ready  chan struct{}
	err    error
	users  int
}

func newCache(snap repo.Snapshot, x *fetch.Image, o Options) *cache {
	c := &cache{snap: snap, x: x, max: o.Cache, loaders: make(chan *fetch.Reader, o.Loaders)}
	c.freed.L = &c.mu
	for range o.Loaders {
		c.loaders <- nil
	}
	return c
}

// get returns the chunk d of the given length, to be given back with put.
func (c *cache) get(ctx context.Context, d digest.Digest, length int) (*entry, error) {
	e, mine, err := c.find(ctx, d)
	if err != nil {
		return nil, err
	}
	if mine {
		c.load(ctx, e, length)
	}
	<-e.ready // ends when ctx does: all readers of an image share it
	if e.err != nil {
		err := e.err
		c.put(e)
		return nil, err
	}
	return e, nil
}

// find returns the entry of d, with a user more. mine says that it is new, and
// the caller's to load.
func (c *cache) find(ctx context.Context, d digest.Digest) (e *entry, mine bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if c.closed {
			return nil, false, fs.ErrClosed
		}
		if ctx.Err() != nil {
			return nil, false, context.Cause(ctx)
		}
		if i := slices.IndexFunc(c.entries, func(e *entry) bool { return e.digest == d }); i >= 0 {
			e := c.entries[i]
			c.entries = append(slices.Delete(c.entries, i, i+1), e)
			e.users++
			c.users++
			return e, false, nil
		}
		buf, err := c.room()
		if err != nil {
			return nil, false, err
		}
		if buf != nil {
			e := &entry{digest: d, buf: buf, ready: make(chan struct{}), users: 1}
			c.entries = append(c.entries, e)
			c.users++
			return e, true, nil
		}
		c.freed.Wait()
	}
}

// room returns a buffer: a new one, or that of the entry unused for longest;
// nil when all are in use.
func (c *cache) room() (*pagebuf.Buffer, error) {
	if c.bufs < c.max {
		buf, err := pagebuf.New(int(c.x.ChunkSize) + fetch.Slack)
		if err == nil {
			c.bufs++
		}
		return buf, err
	}
	i := slices.IndexFunc(c.entries, func(e *entry) bool { return e.users == 0 })
	if i < 0 {
		return nil, nil
	}
	buf := c.entries[i].buf
	c.entries = slices.Delete(c.entries, i, i+1)
	return buf, nil
}

// load fills an entry, or takes it out of the cache with its error.
func (c *cache) load(ctx context.Context, e *entry, length int) {
	defer close(e.ready)
	e.data = e.buf.Bytes()[:length]
	if e.err = c.fetch(ctx, e); e.err == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries = slices.DeleteFunc(c.entries, func(x *entry) bool { return x == e })
}

func (c *cache) fetch(ctx context.Context, e *entry) (err error) {
	var r *fetch.Reader
	select {
	case r = <-c.loaders:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { c.loaders <- r }()
	if r == nil {
		if r, err = fetch.NewReader(c.snap, c.x); err != nil {
			return err
		}
	}
	return r.Read(ctx, e.digest, e.data)
}

// put gives an entry back.
func (c *cache) put(e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e.users--
	c.users--
	if e.users == 0 && e.err != nil {
		e.buf.Free()
		c.bufs--
	}
	c.freed.Broadcast()
}

// close waits until nobody uses an entry, and frees everything. The reads must
// have been cancelled before.
func (c *cache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.closed = true
	c.freed.Broadcast()
	for c.users > 0 {
		c.freed.Wait()
	}
	for _, e := range c.entries {
		e.buf.Free()
	}
	c.entries, c.bufs = nil, 0
	for range cap(c.loaders) {
		if r := <-c.loaders; r != nil {
			r.Close()
		}
	}
}
