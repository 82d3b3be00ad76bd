package extract

import (
	"context"
	"fmt"
	"io"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

const (
	smallFile  = 128 << 10 // content that goes to another goroutine
	batchBytes = 256 << 10
	batchJobs  = 64
)

// batch is entries that are made by one goroutine, in order. It belongs to the
// reading goroutine, then to the one that makes them.
type batch struct {
	jobs []job
	buf  []byte // of batchBytes; the part in use is their contents
	used int
}

// job is an entry that is no directory and no hard link.
type job struct {
	dir  *dir
	e    pxar.Entry
	data []byte // in the buffer of the batch
}

func (r *run) startBatches(n int) {
	r.jobs = make(chan *batch, n)
	r.free = make(chan *batch, n)
	for range n {
		r.free <- &batch{jobs: make([]job, 0, batchJobs)}
	}
}

// put has an entry made, with its content.
func (r *run) put(d *dir, e *pxar.Entry) error {
	if b := r.batch; b != nil && (len(b.jobs) == batchJobs || int64(batchBytes-b.used) < e.Size && e.Kind == pxar.File) {
		r.send()
	}
	if r.batch == nil {
		select {
		case r.batch = <-r.free:
		case <-r.ctx.Done():
			return context.Cause(r.ctx)
		}
		if r.batch.buf == nil {
			r.batch.buf = make([]byte, batchBytes)
		}
	}
	b := r.batch
	j := job{dir: d, e: *e}
	if e.Kind == pxar.File {
		j.data = b.buf[b.used:][:e.Size]
		if err := r.fill(j.data); err != nil {
			return r.unreadable(d, e, err)
		}
		b.used += len(j.data)
	}
	d.pending.Add(1)
	b.jobs = append(b.jobs, j)
	return nil
}

// fill reads content of the current file.
func (r *run) fill(p []byte) error {
	switch _, err := io.ReadFull(r.src, p); err {
	case io.EOF, io.ErrUnexpectedEOF: //nolint:errorlint // ReadFull returns them bare
		return fmt.Errorf("%w: the content of a file is shorter than its size", pxar.ErrFormat)
	default:
		return err
	}
}

// unreadable counts a file whose content could not be read. It returns the error
// if that ends everything.
func (r *run) unreadable(d *dir, e *pxar.Entry, err error) error {
	if r.o.Damaged == nil || r.ctx.Err() != nil || !r.o.Damaged(err) {
		return err
	}
	r.damaged.add(e.Kind, e.Size)
	r.failed.add(e.Kind, e.Size)
	r.tell(Problem{d.pathOf(e.Name), e.Kind, err})
	return nil
}

// send hands on what is in the batch.
func (r *run) send() {
	if r.batch != nil {
		r.jobs <- r.batch // has room for all there are
		r.batch = nil
	}
}

// drain waits until everything that was put is made.
func (r *run) drain() error {
	r.send()
	all := make([]*batch, 0, cap(r.free))
	for range cap(r.free) {
		select {
		case b := <-r.free:
			all = append(all, b)
		case <-r.ctx.Done():
			return context.Cause(r.ctx)
		}
	}
	for _, b := range all {
		r.free <- b
	}
	return nil
}

// work makes what is in batches, until there are no more. After an error it only
// lets go of the directories.
func (r *run) work() {
	m := maker{run: r}
	defer r.sum(&m.tally)
	for b := range r.jobs {
		for i := range b.jobs {
			j := &b.jobs[i]
			if r.ctx.Err() == nil {
				if err := m.make(j.dir, &j.e, j.data); err != nil {
					r.cancel(err)
				}
			}
			j.dir.release()
			*j = job{}
		}
		b.jobs, b.used = b.jobs[:0], 0
		r.free <- b
	}
}
