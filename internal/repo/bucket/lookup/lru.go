package lookup

import (
	"container/list"
	"sync"
)

// lru keeps the values that were used last.
type lru[K comparable, V any] struct {
	limit int64         // bytes
	size  func(V) int64 // of a value; overhead comes on top

	mu    sync.Mutex
	bytes int64
	used  list.List // of *kept, the last one first
	by    map[K]*list.Element
}

type kept[K comparable, V any] struct {
	key   K
	value V
}

// overhead is about what an element takes besides its value, in bytes.
const overhead = 200

func newLRU[K comparable, V any](limit int64, size func(V) int64) *lru[K, V] {
	return &lru[K, V]{limit: limit, size: size, by: map[K]*list.Element{}}
}

func (c *lru[K, V]) get(key K) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.by[key]
	if e == nil {
		return v, false
	}
	c.used.MoveToFront(e)
	return e.Value.(*kept[K, V]).value, true
}

// put keeps a value, the last one even if it alone is more than the limit.
func (c *lru[K, V]) put(key K, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.by[key]; e != nil {
		c.remove(e)
	}
	c.by[key] = c.used.PushFront(&kept[K, V]{key, v})
	c.bytes += c.size(v) + overhead
	for c.bytes > c.limit && c.used.Len() > 1 {
		c.remove(c.used.Back())
	}
}

func (c *lru[K, V]) remove(e *list.Element) {
	k := c.used.Remove(e).(*kept[K, V])
	delete(c.by, k.key)
	c.bytes -= c.size(k.value) + overhead
}
