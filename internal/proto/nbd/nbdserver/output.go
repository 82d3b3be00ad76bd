package nbdserver

import (
	"net"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/pagebuf"
)

// output is the writing side of a connection. The reader collects its replies
// in inline; workers add theirs to next. Whoever finds that nobody writes does,
// until there is nothing left.
type output struct {
	nc    net.Conn
	stall time.Duration
	pool  *pool
	mem   *account

	inline []byte // of the reader only

	mu      sync.Mutex
	room    sync.Cond // a write has ended
	next    batch
	busy    batch // of who writes
	writing bool
	err     error
	vec     net.Buffers // of who writes
	vecs    [][]byte
	armed   time.Time // when the deadline was set
}

const (
	inlineSize = 128 << 10 // replies of the reader that leave together
	headLimit  = 128 << 10 // of a batch: who finds more waits
)

// batch is a run of replies.
type batch struct {
	head  []byte // headers and small payloads
	cut   int    // what of head is in parts already
	parts []part
	bufs  []*pagebuf.Buffer // to free when all is sent
}

// part is a piece of head, or a payload that lies elsewhere.
type part struct {
	from, to int
	data     []byte
}

// payload appends bytes that stay where they are until the batch is sent.
func (b *batch) payload(data []byte) {
	b.split()
	b.parts = append(b.parts, part{data: data})
}

func (b *batch) split() {
	if b.cut < len(b.head) {
		b.parts = append(b.parts, part{from: b.cut, to: len(b.head)})
		b.cut = len(b.head)
	}
}

// begin gives a worker the batch to append to. The lock is held until end.
func (o *output) begin() *batch {
	o.mu.Lock()
	for o.writing && o.err == nil && len(o.next.head) >= headLimit {
		o.room.Wait()
	}
	return &o.next
}

// end sends what was appended, or leaves that to who is writing.
func (o *output) end() {
	if o.writing {
		o.mu.Unlock()
		return
	}
	o.writing = true
	o.drain(o.err)
}

// reserve makes room for n more bytes of the reader's replies.
func (o *output) reserve(n int) error {
	if len(o.inline)+n <= cap(o.inline) {
		return nil
	}
	if len(o.inline)+n > inlineSize {
		if err := o.flush(); err != nil {
			return err
		}
	}
	if need := len(o.inline) + n; need > cap(o.inline) {
		size := max(cap(o.inline), 8<<10)
		for size < need {
			size *= 2
		}
		o.inline = append(make([]byte, 0, size), o.inline...)
	}
	return nil
}

// flush sends the reader's replies.
func (o *output) flush() error {
	if len(o.inline) == 0 {
		return nil
	}
	o.mu.Lock()
	for o.writing {
		o.room.Wait()
	}
	err := o.err
	if err == nil {
		o.writing = true
		o.mu.Unlock()
		o.arm(len(o.inline))
		_, err = o.nc.Write(o.inline)
		o.mu.Lock()
	}
	o.inline = o.inline[:0]
	return o.drain(err)
}

// drain sends batches until there is none, as the one who writes. It unlocks.
func (o *output) drain(err error) error {
	for err == nil && len(o.next.head) > 0 {
		o.next, o.busy = o.busy, o.next
		o.room.Broadcast()
		o.mu.Unlock()
		err = o.send(&o.busy)
		o.release(&o.busy)
		o.mu.Lock()
	}
	if err != nil {
		o.err = err
		o.release(&o.next)
		_ = o.nc.Close() // the reader ends, too
	}
	o.writing = false
	o.room.Broadcast()
	o.mu.Unlock()
	return err
}

func (o *output) send(b *batch) error {
	if len(b.parts) == 0 {
		o.arm(len(b.head))
		_, err := o.nc.Write(b.head)
		return err
	}
	b.split()
	n := 0
	o.vecs = o.vecs[:0]
	for _, p := range b.parts {
		v := p.data
		if v == nil {
			v = b.head[p.from:p.to]
		}
		n += len(v)
		o.vecs = append(o.vecs, v)
	}
	o.arm(n)
	o.vec = o.vecs
	_, err := o.vec.WriteTo(o.nc)
	clear(o.vecs)
	return err
}

// release empties a batch and frees its buffers.
func (o *output) release(b *batch) {
	for i, buf := range b.bufs {
		o.pool.put(o.mem, buf)
		b.bufs[i] = nil
	}
	clear(b.parts)
	b.head, b.parts, b.bufs, b.cut = b.head[:0], b.parts[:0], b.bufs[:0], 0
}

// arm sets the time in which the peer must take n bytes. For small writes the
// deadline of a moment ago is good enough.
func (o *output) arm(n int) {
	if o.stall <= 0 {
		return
	}
	now := time.Now()
	if n < slowest && now.Sub(o.armed) < o.stall/4 {
		return
	}
	o.armed = now
	_ = o.nc.SetWriteDeadline(now.Add(o.stall + transfer(n)))
}
