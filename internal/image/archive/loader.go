package archive

import (
	"context"
	"io/fs"
	"runtime"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/repo/fetch"
)

// loader fetches and decodes chunks. It owns the buffer of an encoded one.
type loader struct {
	user *user
	r    *fetch.Reader
	want want
}

// pool lends loaders, the same few to all images of a cache. All of it is under
// Cache.mu.
type pool struct {
	max     int // loaders
	idle    []*loader
	busy    int
	unasked int // of the busy ones
	queued  int // who waits for a loader with somebody behind him
}

// Encoded chunks are held to so many bytes, if two loaders do with that.
const maxEncoded = 24 << 20

func defaultLoaders(n int) int {
	if n > 0 {
		return n
	}
	return min(runtime.GOMAXPROCS(0)+1, 6) // one waits for the disk
}

// fit lowers the number of loaders for images of large chunks.
func (c *Cache) fit(chunk int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pool.max = min(c.pool.max, max(2, maxEncoded/blob.MaxEncoded(chunk)))
}

// background is how many loaders may work for nobody: one is left for who comes.
func (p *pool) background() int { return max(1, p.max-1) }

// loader waits for one. Who is waited for goes first.
func (c *Cache) loader(ctx context.Context, u *user, w want) (*loader, error) {
	l, err := c.lend(ctx, u, w)
	if err != nil || l.user == u {
		return l, err
	}
	if l.r != nil {
		l.r.Close()
		*l = loader{want: w}
	}
	r, err := fetch.ReaderFor(u.snap, u.key, u.most)
	if err != nil {
		c.putLoader(l)
		return nil, err
	}
	l.user, l.r = u, r
	return l, nil
}

func (c *Cache) lend(ctx context.Context, u *user, w want) (*loader, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w == asked {
		c.queued++
		defer func() { c.queued-- }()
	}
	for {
		switch {
		case c.closed:
			return nil, fs.ErrClosed
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		}
		if c.busy < c.pool.max && (w == asked || c.queued == 0 && c.unasked < c.background()) {
			break
		}
		c.changed.Wait()
	}
	l := &loader{}
	if n := len(c.idle); n > 0 {
		k := max(0, slices.IndexFunc(c.idle, func(l *loader) bool { return l.user == u }))
		l = c.idle[k]
		c.idle = slices.Delete(c.idle, k, k+1)
	}
	l.want = w
	c.busy++
	if w != asked {
		c.unasked++
	}
	return l, nil
}

func (c *Cache) putLoader(l *loader) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy--
	if l.want != asked {
		c.unasked--
	}
	if l.r != nil {
		c.idle = append(c.idle, l)
	}
	c.changed.Broadcast()
}

// discard frees the idle loaders of an archive; of all if it is nil. It is called
// under the lock.
func (c *Cache) discard(u *user) {
	c.idle = slices.DeleteFunc(c.idle, func(l *loader) bool {
		if u != nil && l.user != u {
			return false
		}
		l.r.Close()
		return true
	})
}
