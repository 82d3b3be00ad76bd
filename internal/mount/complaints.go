package mount

import (
	"log/slog"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// complaints logs failures, at most one a second.
type complaints struct {
	a   *pxar.Archive
	log *slog.Logger

	mu      sync.Mutex
	last    time.Time
	skipped int
}

// add reports that something could not be done with what is at an offset.
func (c *complaints) add(what string, n node, err error) {
	c.mu.Lock()
	if time.Since(c.last) < time.Second {
		c.skipped++
		c.mu.Unlock()
		return
	}
	skipped := c.skipped
	c.last, c.skipped = time.Now(), 0
	c.mu.Unlock()
	c.log.Error("mounted archive: something cannot be shown", "operation", what, "path", c.path(n), "reason", err, "not_logged", skipped)
}

// path finds out what a node is called, as far as that can be read.
func (c *complaints) path(n node) string {
	if n == root {
		return "/"
	}
	offset := n.pos()
	if n.isDir() {
		offset--
	}
	names, err := c.a.PathAt(offset)
	if err != nil {
		return pxar.Join(names) + "/..."
	}
	return pxar.Join(names)
}
