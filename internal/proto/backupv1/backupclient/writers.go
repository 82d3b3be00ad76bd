package backupclient

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/backupv1"
	"github.com/holdfast-backup/holdfast/internal/repo/spool"
)

const (
	// batch is how many entries go in one call: about 46 KiB, less than the
	// smallest limit of a server.
	batch = 512
	// maxQueue is how many entries wait before whoever has more waits too.
	maxQueue = 8 * batch
)

// writer sends the entries of one index, in batches and as the uploads of their
// chunks end.
type writer struct {
	s       *Session
	wid     int
	name    names.Archive
	uploads sync.WaitGroup // that go through this index
	closing bool           // no more of them; under s.mu
	senders sync.WaitGroup
	file    *spool.File // nil: none

	mu    sync.Mutex
	moved *sync.Cond
	queue []entry
	flush bool // what is left is to be sent
	busy  int  // batches on their way
	count uint64
}

// entry is a chunk of an index.
type entry struct {
	offset uint64
	digest digest.Digest
	after  *upload // it must be done first; nil: it is
}

// start adds an index that the server has created. A fixed one has several
// senders, for its entries need no order.
func (b *Session) start(name names.Archive, file *spool.File, create func() (wid int, err error)) (*writer, error) {
	if err := b.state(b.ctx); err != nil {
		return nil, fmt.Errorf("create index %s: %w", name, err)
	}
	wid, err := create()
	if err != nil {
		return nil, fmt.Errorf("create index %s: %w", name, err)
	}
	w := &writer{s: b, wid: wid, name: name, file: file}
	w.moved = sync.NewCond(&w.mu)
	b.mu.Lock()
	ended := b.ended
	if !ended {
		b.writers, b.all = append(b.writers, w), append(b.all, w)
	}
	b.mu.Unlock()
	if ended {
		return nil, fmt.Errorf("create index %s: %w", name, errEnded)
	}
	senders := 1
	if name.Kind() == names.Fidx {
		senders = 4
	}
	for range senders {
		w.senders.Go(w.send)
	}
	return w, nil
}

// add queues entries.
func (w *writer) add(entries ...entry) error {
	for i := range entries {
		entries[i].after = w.s.up.pending(entries[i].digest)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.queue) >= maxQueue && w.s.ctx.Err() == nil {
		w.moved.Wait()
	}
	if err := w.s.state(w.s.ctx); err != nil {
		return err
	}
	w.queue = append(w.queue, entries...)
	w.count += uint64(len(entries))
	if len(w.queue) >= batch {
		w.moved.Broadcast()
	}
	return nil
}

// send sends batches until the index is complete or the session fails.
func (w *writer) send() {
	stop := context.AfterFunc(w.s.ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.moved.Broadcast()
	})
	defer stop()
	for {
		part := w.take()
		if part == nil {
			return
		}
		err := w.append(part)
		w.mu.Lock()
		w.busy--
		w.moved.Broadcast()
		w.mu.Unlock()
		if err != nil {
			w.s.fail(fmt.Errorf("index %s: %w", w.name, err))
			return
		}
	}
}

// take returns the next entries; nil when there will be none.
func (w *writer) take() []entry {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		switch n := len(w.queue); {
		case w.s.ctx.Err() != nil:
			return nil
		case n >= batch, n > 0 && w.flush:
			part := append([]entry(nil), w.queue[:min(n, batch)]...)
			w.queue = append(w.queue[:0], w.queue[len(part):]...)
			w.busy++
			w.moved.Broadcast()
			return part
		case w.flush:
			return nil
		}
		w.moved.Wait()
	}
}

// append sends entries when their chunks have arrived.
func (w *writer) append(part []entry) error {
	call := backupv1.Append{Wid: w.wid, Digests: make([]digest.Digest, len(part)), Offsets: make([]uint64, len(part))}
	for i, e := range part {
		if e.after != nil {
			<-e.after.done // uploads end with the session at the latest
			if e.after.err != nil {
				return e.after.err
			}
		}
		call.Digests[i], call.Offsets[i] = e.digest, e.offset
	}
	return w.s.wire.append(w.s.ctx, w.name.Kind(), call)
}

// finish sends what is left and closes the index at the server.
func (w *writer) finish(size uint64, sum digest.Digest) error {
	w.mu.Lock()
	w.flush = true
	count := w.count
	w.moved.Broadcast()
	w.mu.Unlock()
	w.senders.Wait()
	w.s.mu.Lock()
	w.closing = true
	w.s.mu.Unlock()
	w.uploads.Wait() // of other indexes' chunks too: they need this one to be open
	if err := w.s.state(w.s.ctx); err != nil {
		return err
	}
	return w.s.wire.close(w.s.ctx, w.name.Kind(), backupv1.Close{Wid: w.wid, Count: count, Size: size, Csum: sum})
}

// settle takes the index off the list of open ones.
func (w *writer) settle(err error) error {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	for i, o := range w.s.writers {
		if o == w {
			w.s.writers = append(w.s.writers[:i], w.s.writers[i+1:]...)
			break
		}
	}
	if err != nil {
		w.s.spoilt = true
		return fmt.Errorf("index %s: %w", w.name, err)
	}
	w.s.files++
	return nil
}

// release ends what is left of an index with its session.
func (w *writer) release() error {
	w.senders.Wait()
	if w.file == nil {
		return nil
	}
	return w.file.Close()
}

var errClosed = errors.New("closed twice")
