package backup

import (
	"context"
	"fmt"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
	"github.com/holdfast-backup/holdfast/internal/zero"
)

// pump moves the chunks of all dynamic archives that are open through the
// workers. Everything of it, and the marked fields of [Dynamic], is under mu,
// which is taken a few times for each chunk and never held while one is worked on.
type pump struct {
	mu      sync.Mutex
	changed sync.Cond
	jobs    []job // in the order in which they came
	taken   int64 // bytes of chunks that are queued or worked on
	budget  int64 // of taken
	open    int   // archives
	urgent  int   // who waits for workers to be done
	paused  bool  // workers end when nothing is queued

	life    sync.Mutex // held while the workers start and end
	workers sync.WaitGroup
}

// job is a chunk for a worker, which owns its buffer.
type job struct {
	d    *Dynamic
	buf  *pagebuf.Buffer
	data []byte
	at   int64 // offset in the archive
	slot *slot
}

// begin adds an archive. The first one starts the workers.
func (p *pump) begin(w *Writer, d *Dynamic) error {
	if d.ctx.Err() != nil {
		return context.Cause(d.ctx)
	}
	p.life.Lock()
	defer p.life.Unlock()
	p.mu.Lock()
	first := p.open == 0
	p.mu.Unlock()
	if first {
		for _, k := range w.workers {
			if err := k.makeRoom(blob.MaxChunk); err != nil {
				return err
			}
		}
	}
	p.mu.Lock()
	// Two of half of the largest size for each worker: about four usual ones.
	p.budget = max(p.budget, int64(len(w.workers))*lanes*int64(d.max)/2)
	p.open++
	p.mu.Unlock()
	if first {
		for _, k := range w.workers {
			p.workers.Go(func() { k.pump(p) })
		}
	}
	d.stop = context.AfterFunc(d.ctx, func() {
		p.mu.Lock()
		p.changed.Broadcast()
		p.mu.Unlock()
	})
	return nil
}

// end removes an archive, after its chunks. The last one ends the workers.
func (p *pump) end(d *Dynamic) {
	p.mu.Lock()
	if d.over {
		p.mu.Unlock()
		return
	}
	d.over = true
	if d.err == nil && (d.busy > 0 || len(d.queue) > 0) {
		d.err = fmt.Errorf("archive %s: given up", d.name)
	}
	for d.busy > 0 || d.adding {
		p.hurry()
	}
	spare := d.spare
	d.spare = nil
	p.mu.Unlock()
	d.stop()
	pagebuf.FreeAll(spare)

	p.life.Lock()
	defer p.life.Unlock()
	p.mu.Lock()
	p.open--
	last := p.open == 0
	p.changed.Broadcast()
	p.mu.Unlock()
	if last {
		p.workers.Wait()
	}
}

// pause lends the workers to an image, while archives stay open and nobody
// writes to them.
func (p *pump) pause() {
	p.life.Lock()
	defer p.life.Unlock()
	p.mu.Lock()
	p.paused = true
	p.changed.Broadcast()
	p.mu.Unlock()
	p.workers.Wait()
}

// resume takes them back.
func (p *pump) resume(w *Writer) {
	p.life.Lock()
	defer p.life.Unlock()
	p.mu.Lock()
	p.paused = false
	open := p.open
	p.mu.Unlock()
	if open > 0 {
		for _, k := range w.workers {
			p.workers.Go(func() { k.pump(p) })
		}
	}
}

// put queues a chunk when there is room.
func (p *pump) put(j job) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := int64(len(j.data))
	for {
		if err := j.d.state(); err != nil {
			return err
		}
		if p.taken == 0 || p.taken+n <= p.budget {
			break
		}
		p.hurry()
	}
	p.taken += n
	p.jobs = append(p.jobs, j)
	j.d.queue = append(j.d.queue, j.slot)
	j.d.busy++
	p.changed.Broadcast()
	return nil
}

// inject queues chunks that need no worker.
func (p *pump) inject(d *Dynamic, chunks []Reused) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range chunks {
		for len(d.queue) >= maxQueue && d.err == nil {
			if p.drain(d); len(d.queue) >= maxQueue && d.state() == nil {
				p.hurry()
			}
		}
		if err := d.state(); err != nil {
			return err
		}
		d.queue = append(d.queue, &slot{digest: c.Digest, length: c.Length, done: true})
	}
	p.drain(d)
	return d.state()
}

// wait returns when everything is in the index.
func (p *pump) wait(d *Dynamic) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if err := d.state(); err != nil {
			return err
		}
		if len(d.queue) == 0 && !d.adding {
			return nil
		}
		p.hurry()
	}
}

// hurry waits for a change that workers make.
func (p *pump) hurry() {
	p.urgent++
	p.changed.Broadcast()
	p.changed.Wait()
	p.urgent--
}

// next gives a worker chunks, at most lanes; none at the end. One chunk waits for
// another to be hashed with, as long as nobody waits for it.
func (p *pump) next(into []job) []job {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.jobs) < lanes && (len(p.jobs) == 0 || p.urgent == 0 && !p.paused) {
		if p.open == 0 || p.paused {
			return nil
		}
		p.changed.Wait()
	}
	n := copy(into[:cap(into)], p.jobs)
	p.jobs = append(p.jobs[:0], p.jobs[n:]...)
	return into[:n]
}

// done takes a chunk back from a worker.
func (p *pump) done(j job, err error) {
	d := j.d
	free := j.buf
	p.mu.Lock()
	// A buffer of which much was used takes that much memory.
	if len(j.data) <= d.max/2 && len(d.spare) < lanes && !d.over {
		d.spare = append(d.spare, j.buf)
		free = nil
	}
	p.taken -= int64(len(j.data))
	d.busy--
	if err != nil {
		d.set(fmt.Errorf("at offset %d: %w", j.at, err))
	} else {
		j.slot.done = true
		p.drain(d)
	}
	p.changed.Broadcast()
	p.mu.Unlock()
	free.Free()
}

// drain moves what is done to the index, in order. The lock is given away
// meanwhile.
func (p *pump) drain(d *Dynamic) {
	if d.adding {
		return // whoever is at it sees what came
	}
	d.adding = true
	var ready [256]*slot
	for d.err == nil {
		n := 0
		for n < len(ready) && n < len(d.queue) && d.queue[n].done {
			ready[n] = d.queue[n]
			n++
		}
		if n == 0 {
			break
		}
		d.queue = append(d.queue[:0], d.queue[n:]...)
		end := d.end
		p.mu.Unlock()
		var err error
		for _, s := range ready[:n] {
			end += uint64(s.length)
			if err = d.dw.Add(end, s.digest); err != nil {
				break
			}
		}
		p.mu.Lock()
		d.end = end
		if err != nil {
			d.set(err)
		}
	}
	d.adding = false
	p.changed.Broadcast()
}

// pump works until no archive is open.
func (k *worker) pump(p *pump) {
	var buf [lanes]job
	for {
		jobs := p.next(buf[:0])
		if len(jobs) == 0 {
			return
		}
		var plain [lanes]piece
		var sums [lanes]digest.Digest
		var errs [lanes]error
		n := 0
		for i, j := range jobs {
			errs[i] = j.d.failed()
			if errs[i] == nil && (len(j.data) < j.d.max || !zero.Is(j.data)) {
				plain[n] = piece{slot: i, data: j.data}
				n++
			}
		}
		k.hash(sums[:], plain[:n])
		n = 0
		for i, j := range jobs {
			switch {
			case errs[i] != nil:
			case plain[n].data != nil && plain[n].slot == i:
				errs[i] = k.dynamic(j, sums[n])
				n = min(n+1, lanes-1)
			default:
				errs[i] = k.dynamicZero(j)
			}
			p.done(j, errs[i])
		}
	}
}

// dynamic stores one chunk unless it is known.
func (k *worker) dynamic(j job, d digest.Digest) error {
	known, err := j.d.prev.Has(d, len(j.data))
	if err != nil {
		return err
	}
	var encoded int
	if !known {
		if known, encoded, err = k.store(j.d.ctx, d, j.data); err != nil {
			return err
		}
	}
	j.slot.digest = d
	k.count(j.d.count, len(j.data), known, encoded)
	return nil
}

// dynamicZero is for the largest chunks of zeros, of which a file with holes
// has many.
func (k *worker) dynamicZero(j job) error {
	d, err := k.zeroChunk(j.d.ctx, j.d.count, len(j.data))
	if err != nil {
		return err
	}
	j.slot.digest = d
	for _, c := range [...]*Counters{j.d.count, k.w.opts.Counters} {
		c.zero.add(1, int64(len(j.data)))
	}
	return nil
}

// makeRoom makes sure that an encoded chunk of that size fits.
func (k *worker) makeRoom(chunk int) error {
	need := blob.MaxEncoded(chunk)
	if len(k.out.Bytes()) >= need {
		return nil
	}
	out, err := pagebuf.New(need)
	if err != nil {
		return err
	}
	k.out.Free()
	k.out = out
	return nil
}
