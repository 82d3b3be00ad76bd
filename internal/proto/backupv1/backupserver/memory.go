package backupserver

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
)

// MemoryOptions say how much is used; what is 0 gets its default.
type MemoryOptions struct {
	// Bodies is how many bytes the bodies of all sessions together may hold: 128
	// MiB. Beyond, new ones wait as long as others are being worked on. When there
	// are none, all wait for the network, and one that is not read may be what holds
	// up the others on its connection; so then one after the other is let in, with a
	// pause between.
	Bodies int64
	// Limit is how many bytes they may hold at the most: 1 GiB. A body that waits
	// for room longer than Patience, two minutes, while nothing is being worked on, is
	// refused.
	Limit    int64
	Patience time.Duration
	// Workers is how many chunks are decoded and stored at a time: one more than
	// there are processors, because one waits for the disk.
	Workers int
}

// pace is the pause between bodies that are let in beyond what they may hold.
const pace = 5 * time.Millisecond

// Memory holds the buffers of sessions. What it keeps between chunks is freed when
// there is no session any more. Close it after the last one.
type Memory struct {
	opt     MemoryOptions
	workers chan *worker // idle ones; nil for one that is still to be made
	pool    *pagebuf.Pool
	pairs   pairs

	mu    sync.Mutex
	moved chan struct{} // closed when something changes; nil when nobody waits
	held  int64
	busy  int       // bodies that have arrived and are worked on
	over  time.Time // when a body was let in beyond Bodies
	users int       // sessions
}

// worker decodes chunks.
type worker struct {
	dec   *blob.Decoder
	plain *pagebuf.Buffer
	pairs *pairs
}

// errCrowded is a body beyond the limit.
var errCrowded = errors.New("too many uploads at a time: wait for answers")

// NewMemory returns an empty one.
func NewMemory(o MemoryOptions) *Memory {
	if o.Bodies <= 0 {
		o.Bodies = 128 << 20
	}
	if o.Limit <= 0 {
		o.Limit = max(1<<30, o.Bodies)
	}
	if o.Patience <= 0 {
		o.Patience = 2 * time.Minute
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0) + 1
	}
	m := &Memory{opt: o, workers: make(chan *worker, o.Workers), pool: pagebuf.NewPool(o.Bodies)}
	for range o.Workers {
		m.workers <- nil
	}
	return m
}

// Close frees everything. No session may be using it.
func (m *Memory) Close() {
	for range m.opt.Workers {
		(<-m.workers).free()
	}
	m.pool.Close()
}

// What a client has sent and no call has read yet is memory too. Alone, a session
// gets the window of a long line; of many, each one that comes a smaller part: 32
// sessions have 382 MiB together.
const (
	windows   = 128 << 20
	minWindow = 1 << 20
)

// enter and leave say that a session begins and ends. It gets a window.
func (m *Memory) enter() (window int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.users++
	return max(windows/m.users, minWindow)
}

func (m *Memory) leave() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.users--; m.users == 0 {
		m.pool.Trim()
		m.dismiss()
	}
}

// dismiss frees what idle workers have.
func (m *Memory) dismiss() {
	for range m.opt.Workers {
		select {
		case w := <-m.workers:
			w.free()
			m.workers <- nil
		default: // the others are at work
			return
		}
	}
}

func (w *worker) free() {
	if w != nil {
		w.dec.Close()
		w.plain.Free()
	}
}

// body is the memory of one body.
type body struct {
	m    *Memory
	buf  *pagebuf.Buffer
	data []byte
	busy bool
}

// take returns room for n bytes.
func (m *Memory) take(ctx context.Context, n int) (*body, error) {
	for idle := time.Duration(0); ; {
		moved, working := m.admit(int64(n))
		if moved == nil {
			break
		}
		if idle >= m.opt.Patience {
			return nil, errCrowded
		}
		if working { // a disk that stalls is no reason to refuse anybody
			select {
			case <-moved:
				continue
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		t := time.NewTimer(pace)
		select {
		case <-moved:
		case <-t.C:
			idle += pace
		case <-ctx.Done():
		}
		t.Stop()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	buf, err := m.pool.Get(n)
	if err != nil {
		m.give(int64(n), false)
		return nil, fmt.Errorf("memory for %d bytes: %w", n, err)
	}
	return &body{m: m, buf: buf, data: buf.Bytes()[:n]}, nil
}

// admit takes n bytes if that may be now. If not, it returns what is closed when
// something changes, and whether bodies are being worked on.
func (m *Memory) admit(n int64) (moved chan struct{}, working bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	within := m.held == 0 || m.held+n <= m.opt.Bodies
	beyond := m.held+n <= m.opt.Limit && m.busy == 0 && now.Sub(m.over) >= pace
	if within || beyond {
		if !within {
			m.over = now
		}
		m.held += n
		return nil, false
	}
	if m.moved == nil {
		m.moved = make(chan struct{})
	}
	return m.moved, m.busy > 0
}

// arrived says that the body is complete, and that its memory will be given back
// without any doing of the client.
func (b *body) arrived() {
	b.m.mu.Lock()
	defer b.m.mu.Unlock()
	b.busy = true
	b.m.busy++
}

// release gives the memory back.
func (b *body) release() {
	b.m.pool.Put(b.buf)
	b.m.give(int64(len(b.data)), b.busy)
	b.buf, b.data = nil, nil
}

func (m *Memory) give(n int64, busy bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held -= n
	if busy {
		m.busy--
	}
	if m.moved != nil {
		close(m.moved)
		m.moved = nil
	}
}

// work runs f with a worker, when one is free.
func (m *Memory) work(ctx context.Context, f func(*worker) error) error {
	var w *worker
	select {
	case w = <-m.workers:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { m.workers <- w }()
	if w == nil {
		dec, err := blob.NewDecoder(nil)
		if err != nil {
			return err
		}
		plain, err := pagebuf.New(blob.MaxChunk)
		if err != nil {
			dec.Close()
			return err
		}
		w = &worker{dec, plain, &m.pairs}
	}
	return f(w)
}
