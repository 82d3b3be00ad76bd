package archive

import (
	"context"
	"io/fs"
	"os"

	"github.com/holdfast-backup/holdfast/internal/pagebuf"
	"github.com/holdfast-backup/holdfast/internal/repo/fetch"
)

// segments decides which chunk goes. All of it is under Cache.mu. Chunks that
// are being fetched are in no segment.
type segments struct {
	used   int64 // bytes of all buffers, also of chunks being fetched
	unread int64 // of those, bytes read ahead that nobody has asked for
	lists  [3]list
}

// The segments. What comes is tried: it goes in the order in which it came,
// unless it was asked for again by other than a sequential reader; then it is
// kept, up to half of the cache. So a copy of the whole image passes through and
// leaves what is kept. What was read ahead waits apart until it is asked for.
const (
	nowhere = iota - 1
	tried
	kept
	ahead
)

const maxFreq = 3

// place is where an entry is.
type place struct {
	segment    int
	prev, next *entry
	reserved   bool // it counts as used
	unread     bool // it counts as unread while it is fetched
}

// list is a queue of entries, the oldest first.
type list struct {
	first, last *entry
	bytes       int64
}

func (l *list) push(e *entry) {
	e.prev, e.next = l.last, nil
	if l.last != nil {
		l.last.next = e
	} else {
		l.first = e
	}
	l.last = e
	l.bytes += e.size()
}

func (l *list) remove(e *entry) {
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		l.first = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		l.last = e.prev
	}
	e.prev, e.next = nil, nil
	l.bytes -= e.size()
}

// size is what an entry takes. A last, short chunk takes less.
func (e *entry) size() int64 { return bufferSize(e.name.length) }

func bufferSize(length uint32) int64 {
	page := int64(os.Getpagesize())
	return (int64(length) + fetch.Slack + page - 1) &^ (page - 1)
}

func (s *segments) move(e *entry, to int) {
	s.lists[e.segment].remove(e)
	e.segment = to
	s.lists[to].push(e)
}

// place puts what was fetched where it belongs.
func (c *Cache) place(e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e.segment = tried
	if e.unread {
		e.segment = ahead
	}
	c.lists[e.segment].push(e)
}

// touch notes that somebody asked for a chunk.
func (c *Cache) touch(e *entry, sequential bool) {
	if e.fresh.Load() && e.fresh.CompareAndSwap(true, false) {
		e.from.used.Add(1)
		c.mu.Lock()
		defer c.mu.Unlock()
		if e.segment == ahead {
			c.move(e, tried)
			c.unread -= e.size()
		}
		return
	}
	if sequential {
		return
	}
	if n := e.freq.Load(); n < maxFreq {
		e.freq.Store(n + 1) // one that gets lost does no harm
	}
}

// forget takes an entry out of the lists.
func (c *Cache) forget(e *entry) {
	c.lists[e.segment].remove(e)
	c.used -= e.size()
	if e.segment == ahead {
		c.unread -= e.size()
	}
	if e.fresh.Load() {
		e.from.wasted.Add(1)
	}
	e.segment = nowhere
}

// unused returns what is there and used by nobody.
func (c *Cache) unused() []*entry {
	var all []*entry
	for i := range c.lists {
		for e := c.lists[i].first; e != nil; e = e.next {
			if e.users.Load() == 0 {
				all = append(all, e)
			}
		}
	}
	return all
}

// take removes an entry that nobody uses from the cache. Its buffer is the
// caller's.
func (c *Cache) take(e *entry) bool {
	s := c.shard(&e.name)
	s.mu.Lock()
	free := e.users.Load() == 0
	if free && s.m != nil {
		delete(s.m, e.name)
	}
	s.mu.Unlock()
	if free {
		c.forget(e)
	}
	return free
}

// victim takes the chunk that is needed least, of those that w may displace.
func (c *Cache) victim(w want) *entry {
	if w == spare {
		return nil
	}
	for e, next := c.lists[tried].first, (*entry)(nil); e != nil; e = next {
		next = e.next
		switch {
		case e.users.Load() > 0:
		case e.freq.Load() > 0:
			e.freq.Store(0)
			c.move(e, kept)
			c.demote()
			if next == nil {
				next = c.lists[tried].first // what was demoted came behind
			}
		case c.take(e):
			return e
		}
	}
	if w != asked {
		return nil
	}
	for _, seg := range []int{kept, ahead} {
		for e := c.lists[seg].first; e != nil; e = e.next {
			if c.take(e) {
				return e
			}
		}
	}
	return nil
}

// demote keeps what is kept within half of the cache. Each chunk that was asked
// for since gets another round.
func (c *Cache) demote() {
	l := &c.lists[kept]
	last := l.last // behind it begins the second round
	for spared := true; l.bytes > c.limit/2; {
		e := l.first
		if spared && e.freq.Load() > 0 {
			e.freq.Store(0)
			c.move(e, kept)
			spared = e != last
			continue
		}
		e.freq.Store(0)
		c.move(e, tried)
	}
}

// want says who needs room or a loader.
type want int

const (
	asked   want = iota // somebody waits
	forward             // a sequential reader will need it
	spare               // it may be needed, if nothing else is
)

// room gives an entry a buffer, waiting for one if need be.
func (c *Cache) room(ctx context.Context, e *entry) error {
	return c.allot(e, asked, func() error {
		switch {
		case c.closed:
			return fs.ErrClosed
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		c.changed.Wait()
		return nil
	})
}

// roomNow is room for what nobody asked for: it fails instead of waiting.
func (c *Cache) roomNow(e *entry, w want) error {
	return c.allot(e, w, func() error { return errNotNow })
}

// allot finds room and memory. Only the books are kept under the lock: giving
// memory back and taking new takes its time.
func (c *Cache) allot(e *entry, w want, wait func() error) error {
	var out []*pagebuf.Buffer
	c.mu.Lock()
	c.waiting.Add(1) // before looking, so that nobody lets go unseen
	var err error
	for err == nil && !c.reserve(e, w, &out) {
		err = wait()
	}
	c.waiting.Add(-1)
	c.mu.Unlock()

	for _, b := range out {
		if err == nil && e.buf == nil && int64(len(b.Bytes())) == e.size() {
			e.buf = b
			continue
		}
		b.Free()
	}
	if err != nil {
		return err
	}
	if e.buf == nil {
		buf, err := pagebuf.New(int(e.size()))
		if err != nil {
			c.unreserve(e)
			return err
		}
		e.buf = buf
	}
	e.data = e.buf.Bytes()[:e.name.length]
	return nil
}

// reserve makes room for an entry by taking others, whose buffers it adds to
// out.
func (c *Cache) reserve(e *entry, w want, out *[]*pagebuf.Buffer) bool {
	n := e.size()
	if w == forward {
		if n > c.limit/2 {
			return false
		}
		for c.unread+n > c.limit/2 {
			if !c.dropOldestAhead(out) {
				return false
			}
		}
	}
	for c.used+n > c.limit {
		if c.used == 0 && w == asked {
			break // a chunk that is larger than the cache
		}
		v := c.victim(w)
		if v == nil {
			return false
		}
		*out = append(*out, v.buf)
	}
	c.used += n
	e.reserved = true
	if w == forward {
		e.unread = true
		c.unread += n
	}
	return true
}

// dropOldestAhead takes what was read ahead for a reader who seems to have gone.
func (c *Cache) dropOldestAhead(out *[]*pagebuf.Buffer) bool {
	for e := c.lists[ahead].first; e != nil; e = e.next {
		if c.take(e) {
			*out = append(*out, e.buf)
			return true
		}
	}
	return false
}

// giveUp frees what an entry that came to nothing has.
func (c *Cache) giveUp(e *entry) {
	e.buf.Free()
	e.buf, e.data = nil, nil
	c.unreserve(e)
}

func (c *Cache) unreserve(e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.reserved {
		c.used -= e.size()
		e.reserved = false
	}
	if e.unread {
		c.unread -= e.size()
		e.unread = false
	}
	c.changed.Broadcast()
}
