package qcow2

import (
	"container/list"
	"sync"

	format "github.com/holdfast-backup/holdfast/internal/format/qcow2"
)

// cacheBytes is what the table pages of a chain take at most. At clusters of
// 64 KiB it maps 32 GiB of disk.
const cacheBytes = 4 << 20

// pageBytes is the unit of table reads. Tables begin at clusters, and a page
// is never larger than a cluster, so entries do not cross pages.
const pageBytes = 16 << 10

// key names a page.
type key struct {
	layer *layer
	off   int64
}

// cache keeps the table pages that were used last.
type cache struct {
	mu    sync.Mutex
	bytes int64
	pages map[key]*list.Element
	order list.List // of *entry, last used first
}

type entry struct {
	key  key
	page []byte // never changed
}

func newCache() *cache { return &cache{pages: map[key]*list.Element{}} }

// page is the size of pages of an image.
func (*cache) page(h *format.Header) int64 { return min(pageBytes, h.Cluster()) }

// get returns a page, by load where it is not here. Two readers may load one
// page at the same time; nobody waits for another one's disk.
func (c *cache) get(k key, load func() ([]byte, error)) ([]byte, error) {
	c.mu.Lock()
	if e, ok := c.pages[k]; ok {
		c.order.MoveToFront(e)
		page := e.Value.(*entry).page
		c.mu.Unlock()
		return page, nil
	}
	c.mu.Unlock()
	page, err := load()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.pages[k]; ok {
		return page, nil
	}
	c.pages[k] = c.order.PushFront(&entry{k, page})
	c.bytes += int64(len(page))
	for c.bytes > cacheBytes {
		last := c.order.Remove(c.order.Back()).(*entry)
		delete(c.pages, last.key)
		c.bytes -= int64(len(last.page))
	}
	return page, nil
}
