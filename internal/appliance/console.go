package appliance

import (
	"bytes"
	"strings"
	"sync"
)

// Sizes of what is kept of the console and of QEMU's own messages.
const (
	consoleKeep  = 64 << 10
	messagesKeep = 8 << 10
)

// ring keeps the last bytes that were written to it, and tells when a mark has
// been seen.
type ring struct {
	keep int
	mark []byte
	seen chan struct{} // closed when mark came; nil without one

	mu  sync.Mutex
	buf []byte
}

func newRing(keep int, mark string) *ring {
	return &ring{keep: keep, mark: []byte(mark), seen: make(chan struct{})}
}

func (r *ring) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.buf = append(r.buf, p...)
	if r.mark != nil && bytes.Contains(r.buf, r.mark) {
		r.mark = nil
		close(r.seen)
	}
	if len(r.buf) > 2*r.keep {
		r.buf = append([]byte(nil), r.buf[len(r.buf)-r.keep:]...)
	}
	return len(p), nil
}

func (r *ring) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return string(r.buf[max(0, len(r.buf)-r.keep):])
}

// tail returns lines for an error's text, without control characters: the last
// ones, or those from the kernel's last words on.
func (r *ring) tail(lines int) string {
	text := strings.Map(func(c rune) rune {
		if c < ' ' && c != '\n' {
			return -1
		}
		return c
	}, r.String())
	all := strings.Split(strings.TrimSpace(text), "\n")
	for i, l := range all {
		if strings.Contains(l, "Kernel panic") {
			return strings.Join(all[max(0, i-2):min(len(all), i+lines)], "\n")
		}
	}
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
