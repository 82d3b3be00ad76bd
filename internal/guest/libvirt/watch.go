package libvirt

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// watch looks after the space for scratch files while a job runs, and gives the
// point up before the guest would suffer.
type watch struct {
	cancel context.CancelFunc
	done   chan struct{}

	mu  sync.Mutex
	err error // why the point was given up
}

// lookEvery is how often the space is looked at.
const lookEvery = 200 * time.Millisecond

// startWatch calls giveUp once when there is not space enough. stop must be
// called.
func startWatch(space, giveUp func() error) *watch {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watch{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		t := time.NewTicker(lookEvery)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
			if err := space(); err != nil {
				w.mu.Lock()
				w.err = err
				w.mu.Unlock()
				_ = giveUp() // Release tries again, and says if it cannot
				return
			}
		}
	}()
	return w
}

// broken is why the point was given up, if it was.
func (w *watch) broken() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

func (w *watch) stop() {
	w.cancel()
	<-w.done
}

// enough reports whether reserve bytes are left below dir.
func enough(dir string, reserve int64) error {
	free, err := freeSpace(dir)
	if err != nil {
		return fmt.Errorf("space for scratch files: %w", err)
	}
	if free < reserve {
		return fmt.Errorf("%w: %d bytes are left in %s, and %d must stay free: make room, or name another directory", ErrScratch, free, dir, reserve)
	}
	return nil
}
