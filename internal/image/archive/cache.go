package archive

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"sync/atomic"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
	"github.com/holdfast-backup/holdfast/internal/repo/fetch"
)

// DefaultCache is the size of the cache of an image that is given none.
const DefaultCache = 64 << 20

// Cache holds decoded chunks for all images of a process. A chunk is known by
// its key and digest, so that archives and snapshots share what they have in
// common. See the package comment for what stays and what goes.
type Cache struct {
	limit  int64
	shards [shards]shard

	mu      sync.Mutex
	changed sync.Cond    // there may be room, or a loader
	waiting atomic.Int32 // those who wait for users to let go
	closed  bool
	spaces  map[chunkcrypt.Fingerprint]uint32
	segments
	pool
}

const shards = 64

// shard is a part of the chunks by name, so that readers do not meet.
type shard struct {
	mu sync.Mutex
	m  map[name]*entry // nil when the cache is closed
	_  [48]byte        // a cache line of its own
}

// name is what makes a chunk. The length is that of its slot: an index may be
// wrong about it, and then only its own image fails.
type name struct {
	digest digest.Digest
	space  uint32 // which key
	length uint32
}

// entry is a chunk that is there, or on its way until ready is closed.
type entry struct {
	name  name
	from  *origin
	users atomic.Int32 // while above zero it stays
	fresh atomic.Bool  // nobody has asked for it yet
	freq  atomic.Uint32
	done  atomic.Bool // data or err is there
	ready chan struct{}
	data  []byte
	err   error
	buf   *pagebuf.Buffer
	place
}

// NewCache returns a cache of so many bytes; 0 means [DefaultCache]. One that is
// smaller than a chunk holds one chunk at a time.
func NewCache(bytes int64) *Cache { return newCache(bytes, 0) }

func newCache(bytes int64, loaders int) *Cache {
	if bytes <= 0 {
		bytes = DefaultCache
	}
	c := &Cache{limit: bytes, spaces: map[chunkcrypt.Fingerprint]uint32{}}
	c.changed.L = &c.mu
	c.pool.max = defaultLoaders(loaders)
	for i := range c.shards {
		c.shards[i].m = map[name]*entry{}
	}
	return c
}

// Close frees everything, after the images that use the cache were closed;
// reads of one that was not fail.
func (c *Cache) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.changed.Broadcast()
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		s.m = nil
		s.mu.Unlock()
	}
	c.waiting.Add(1)
	defer c.waiting.Add(-1)
	for {
		for _, e := range c.unused() {
			c.forget(e)
			e.buf.Free()
		}
		if c.used == 0 && c.busy == 0 {
			break
		}
		c.changed.Wait()
	}
	c.discard(nil)
}

// space numbers the keys: equal digests under different keys are different
// chunks. No key is number zero.
func (c *Cache) space(key *chunkcrypt.Key) uint32 {
	if key == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n, ok := c.spaces[key.Fingerprint()]
	if !ok {
		n = uint32(len(c.spaces)) + 1
		c.spaces[key.Fingerprint()] = n
	}
	return n
}

func (c *Cache) shard(n *name) *shard { return &c.shards[n.digest[0]%shards] }

// find returns a chunk with a user more, nil if it is not there in full.
func (c *Cache) find(n *name) *entry {
	s := c.shard(n)
	s.mu.Lock()
	e := s.m[*n]
	if e == nil || !e.done.Load() {
		s.mu.Unlock()
		return nil
	}
	e.users.Add(1) // under the lock, where who evicts looks
	s.mu.Unlock()
	return e
}

// has reports whether a chunk is there or on its way.
func (c *Cache) has(n *name) bool {
	s := c.shard(n)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.m[*n]
	return ok
}

// enter returns the entry of a chunk with a user more. mine says that it is new,
// and the caller's to fetch and finish.
func (c *Cache) enter(n name, from *origin, unasked bool) (e *entry, mine bool, err error) {
	s := c.shard(&n)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		return nil, false, fs.ErrClosed
	}
	if e := s.m[n]; e != nil {
		e.users.Add(1)
		return e, false, nil
	}
	e = &entry{name: n, from: from, ready: make(chan struct{})}
	e.users.Store(1)
	e.fresh.Store(unasked)
	s.m[n] = e
	return e, true, nil
}

// release gives a chunk back.
func (c *Cache) release(e *entry) {
	if e.users.Add(-1) == 0 && c.waiting.Load() > 0 {
		c.wake()
	}
}

// wake lets all who wait look again.
func (c *Cache) wake() {
	c.mu.Lock()
	c.changed.Broadcast()
	c.mu.Unlock()
}

// errNotNow is the end of a fetch that nobody asked for and that found no room.
var errNotNow = errors.New("no room to fetch ahead")

// outcome says how a chunk was come by.
type outcome int

const (
	hit    outcome = iota
	shared         // it was on its way
	missed
)

// get returns a chunk with a user more, fetched by u if need be. beside begins
// another one to go with it; it may be nil.
func (c *Cache) get(ctx context.Context, u *user, n name, beside func() batch) (e *entry, how outcome, err error) {
	for {
		e, mine, err := c.enter(n, u.from, false)
		if err != nil {
			return nil, how, err
		}
		if mine {
			if err := c.load(ctx, u, e, beside); err != nil {
				c.release(e)
				return nil, missed, err
			}
			return e, missed, nil
		}
		if !e.done.Load() {
			how = shared
			select {
			case <-e.ready:
			case <-ctx.Done():
				c.release(e)
				return nil, how, context.Cause(ctx)
			}
		}
		err, from := e.err, e.from
		if err == nil {
			return e, how, nil
		}
		c.release(e)
		// What failed for another image, perhaps because it was closed, says
		// nothing of the chunk as this one finds it.
		if from == u.from && !errors.Is(err, errNotNow) {
			return nil, how, err
		}
	}
}

// load fetches a chunk that is waited for.
func (c *Cache) load(ctx context.Context, u *user, e *entry, beside func() batch) error {
	err := c.room(ctx, e)
	if err == nil {
		err = c.fetch(ctx, u, e, beside)
	}
	c.finish(e, err)
	return err
}

func (c *Cache) fetch(ctx context.Context, u *user, e *entry, beside func() batch) error {
	c.announce(u, e)
	l, err := c.loader(ctx, u, asked)
	if err != nil {
		return err
	}
	defer c.putLoader(l)
	var b batch
	if beside != nil {
		b = beside()
	}
	all := [lanes]fetch.Chunk{{Digest: e.name.digest, Data: e.data}}
	n := 1 + copy(all[1:], b.chunks[:b.n])
	l.r.ReadAll(ctx, all[:n])
	if b.n > 0 {
		b.chunks[0] = all[1]
		u.finish(&b)
	}
	u.from.fetched(all[0].Encoded, all[0].Err)
	return all[0].Err
}

// announce has a chunk of a distant snapshot on its way while its reader waits for a
// loader: so there can be more of them on their way than are decoded at a time.
func (c *Cache) announce(u *user, e *entry) {
	if u.far == nil {
		return
	}
	c.mu.Lock()
	wait := c.busy >= c.pool.max
	c.mu.Unlock()
	if wait {
		u.far.Prefetch([]digest.Digest{e.name.digest})
	}
}

// finish makes the outcome of a fetch known. What failed leaves the cache.
func (c *Cache) finish(e *entry, err error) {
	if err == nil {
		c.place(e)
	} else {
		e.err = err
		s := c.shard(&e.name)
		s.mu.Lock()
		if s.m[e.name] == e {
			delete(s.m, e.name)
		}
		s.mu.Unlock()
		c.giveUp(e)
	}
	e.done.Store(true)
	close(e.ready)
}

// CacheStats is a moment of a cache.
type CacheStats struct {
	Limit  int64 // bytes
	Used   int64 // bytes, those of chunks on their way included
	Ahead  int64 // bytes of them that were fetched ahead and not asked for yet
	Chunks int
}

// Stats says how full the cache is.
func (c *Cache) Stats() CacheStats {
	s := CacheStats{Limit: c.limit}
	for i := range c.shards {
		h := &c.shards[i]
		h.mu.Lock()
		s.Chunks += len(h.m)
		h.mu.Unlock()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Used, s.Ahead = c.used, c.unread
	return s
}
