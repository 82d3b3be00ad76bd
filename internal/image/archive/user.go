package archive

import (
	"context"
	"io/fs"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/fetch"
)

// user is an open archive in the eyes of the cache.
type user struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	unhook func() bool
	snap   repo.Snapshot
	far    fetch.Distant // snap, if it is; nil
	key    *chunkcrypt.Key
	most   int // bytes of the largest chunk
	cache  *Cache
	own    bool // the cache goes with the archive
	space  uint32
	from   *origin
	count  counters

	mu     sync.Mutex
	closed bool
	tasks  sync.WaitGroup // reads that may wait, and workers
}

// start makes an archive a user of a cache, of one of its own if it is nil.
func (u *user) start(ctx context.Context, cache *Cache, loaders int) {
	u.from = new(origin)
	u.far, _ = u.snap.(fetch.Distant)
	if u.cache, u.own = cache, cache == nil; u.own {
		u.cache = newCache(0, loaders)
	}
	u.space = u.cache.space(u.key)
	u.cache.fit(u.most)
	u.ctx, u.cancel = context.WithCancelCause(ctx)
	u.unhook = context.AfterFunc(u.ctx, u.cache.wake)
}

// end ends reads that are on their way, waits for them and frees everything but
// what a shared cache keeps. It returns false when it was called before.
func (u *user) end() bool {
	u.mu.Lock()
	if u.closed {
		u.mu.Unlock()
		return false
	}
	u.closed = true
	u.mu.Unlock()
	u.unhook()
	u.cancel(fs.ErrClosed)
	u.cache.wake()
	u.tasks.Wait()
	u.cache.mu.Lock()
	u.cache.discard(u)
	u.cache.mu.Unlock()
	if u.own {
		u.cache.Close()
	}
	return true
}

// enter begins something that end waits for.
func (u *user) enter() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.closed {
		u.tasks.Add(1)
	}
	return !u.closed
}

func (u *user) leave() { u.tasks.Done() }

// batch is chunks that are fetched together. They have their room.
type batch struct {
	entries [lanes]*entry
	chunks  [lanes]fetch.Chunk
	n       int
	left    bool // something found no room
}

// fetchAhead fetches chunks that nobody has asked for yet, at most two.
func (u *user) fetchAhead(slots []slotName) {
	l, err := u.cache.loader(u.ctx, u, forward)
	if err != nil {
		return
	}
	defer u.cache.putLoader(l)
	b := u.begin(slots, forward)
	u.fill(l, &b)
}

// begin enters chunks into the cache.
func (u *user) begin(slots []slotName, w want) (b batch) {
	c := u.cache
	for _, s := range slots {
		e, mine, err := c.enter(s.name, u.from, true)
		switch {
		case err != nil:
			b.left = true
			continue
		case !mine:
			c.release(e)
			continue
		}
		if c.roomNow(e, w) != nil {
			c.finish(e, errNotNow)
			c.release(e)
			b.left = true
			continue
		}
		b.entries[b.n], b.chunks[b.n] = e, fetch.Chunk{Digest: s.name.digest, Data: e.data}
		b.n++
	}
	return b
}

// fill fetches what was begun.
func (u *user) fill(l *loader, b *batch) {
	l.r.ReadAll(u.ctx, b.chunks[:b.n])
	u.finish(b)
}

// finish makes the outcome of a batch known.
func (u *user) finish(b *batch) {
	for k, e := range b.entries[:b.n] {
		err := b.chunks[k].Err
		u.from.fetched(b.chunks[k].Encoded, err)
		if err == nil {
			u.from.ahead.Add(1)
		}
		u.cache.finish(e, err)
		u.cache.release(e)
	}
}
