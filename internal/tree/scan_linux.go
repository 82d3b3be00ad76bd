package tree

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/filemeta"
)

// scan is the walk of one tree: what walker, readers and encoder share.
type scan struct {
	o       *Options
	ctx     context.Context
	root    *dir
	devices map[uint64]bool // that are entered
	outputs []fileID

	ordered chan *batch // for the encoder

	fsMu sync.Mutex
	fss  map[uint64]*filemeta.FS // by device

	mu      sync.Mutex
	changed sync.Cond     // there is work
	allowed sync.Cond     // more readers may work
	batches []*batch      // that no reader has taken
	dirs    []*dirTask    // that may be listed ahead, the next one last
	ahead   int           // listings that wait for the walker, or are being made
	limit   int           // readers that may work
	stopped bool          // no more work comes
	quit    chan struct{} // closed then
	starved bool          // the encoder waited for readers
	work    int64         // items that readers did
	spare   []([]byte)    // arenas
	workers sync.WaitGroup
}

const (
	queued   = 24 // batches between walker and encoder
	maxAhead = 64 // listings
	nameRoom = 64 << 10
)

// dirTask is a directory that is to be opened and listed.
type dirTask struct {
	it    item // its entry
	state taskState
	done  chan struct{}
	dir   *dir // nil: it could not be opened
	list  *listing
	alien bool // on a file system that is not entered
}

type taskState uint8

const (
	waiting taskState = iota
	running           // or done
)

// start begins the readers.
func (s *scan) start(readers int) {
	s.limit = readers
	count := readers
	adapt := s.o.Readers == 0
	if adapt {
		count = MaxReaders
	}
	for n := range count {
		s.workers.Go(func() { s.run(n) })
	}
	if adapt {
		s.workers.Go(s.tune)
	}
}

// stop ends the readers when all work is done, or at once when ctx has ended.
func (s *scan) stop() {
	close(s.quit)
	s.mu.Lock()
	s.stopped = true
	s.changed.Broadcast()
	s.allowed.Broadcast()
	s.mu.Unlock()
	s.workers.Wait()
}

// run is reader n.
func (s *scan) run(n int) {
	r := &reader{s: s, buf: make([]byte, nameRoom)}
	for {
		b, t := s.take(n)
		switch {
		case b != nil:
			for i := range b.items {
				if it := &b.items[i]; it.todo {
					r.fill(b, it)
				}
			}
			close(b.done)
		case t != nil:
			r.open(t)
			close(t.done)
		default:
			return
		}
	}
}

// take waits for work for reader n: batches first, for the encoder may wait for
// them.
func (s *scan) take(n int) (*batch, *dirTask) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.stopped && len(s.batches) == 0:
			return nil, nil
		case n >= s.limit && !s.stopped:
			s.changed.Signal() // whoever may work
			s.allowed.Wait()
			continue
		}
		if len(s.batches) > 0 {
			b := s.batches[0]
			s.batches = s.batches[1:]
			s.work += int64(len(b.items))
			return b, nil
		}
		for len(s.dirs) > 0 && s.ahead < maxAhead && !s.stopped {
			t := s.dirs[len(s.dirs)-1]
			s.dirs = s.dirs[:len(s.dirs)-1]
			if t.state == waiting {
				t.state = running
				s.ahead++
				s.work++
				return nil, t
			}
		}
		s.changed.Wait()
	}
}

// put hands a batch to the readers and the encoder.
func (s *scan) put(b *batch) error {
	work := false
	for i := range b.items {
		work = work || b.items[i].todo
	}
	if !work {
		close(b.done)
	} else {
		s.queue(b)
	}
	select {
	case s.ordered <- b:
		return nil
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
}

func (s *scan) queue(b *batch) {
	s.mu.Lock()
	s.batches = append(s.batches, b)
	s.changed.Signal()
	s.mu.Unlock()
}

// soon announces directories that the walker comes to next.
func (s *scan) soon(tasks []*dirTask) {
	s.mu.Lock()
	if len(s.dirs) > 4*maxAhead { // the walker was faster
		s.dirs = slices.DeleteFunc(s.dirs, func(t *dirTask) bool { return t.state != waiting })
	}
	for _, t := range slices.Backward(tasks) {
		s.dirs = append(s.dirs, t)
	}
	s.changed.Broadcast()
	s.mu.Unlock()
}

// await returns when a directory is open, by a reader or by the walker itself.
func (s *scan) await(r *reader, t *dirTask) {
	s.mu.Lock()
	switch t.state {
	case waiting:
		t.state = running
		s.mu.Unlock()
		r.open(t)
	case running:
		s.mu.Unlock()
		<-t.done
		s.mu.Lock()
		s.ahead--
		s.changed.Signal()
		s.mu.Unlock()
	default:
		panic("tree: a directory is entered twice")
	}
}

// forget gives up a directory that was announced and is not entered.
func (s *scan) forget(t *dirTask) {
	s.mu.Lock()
	mine := t.state == waiting
	t.state = running
	s.mu.Unlock()
	if mine {
		return
	}
	<-t.done
	if t.dir != nil {
		t.dir.release()
	}
}

// arena returns room for the contents of a batch.
func (s *scan) arena() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.spare); n > 0 {
		a := s.spare[n-1]
		s.spare = s.spare[:n-1]
		return a
	}
	return make([]byte, 0, arenaSize)
}

// giveBack is called when the contents of a batch have been written.
func (s *scan) giveBack(b *batch) {
	if b.arena != nil {
		s.mu.Lock()
		s.spare = append(s.spare, b.arena[:0])
		s.mu.Unlock()
		b.arena = nil
	}
}

// fsOf returns the file system of an open file.
func (s *scan) fsOf(fd int, dev uint64) (*filemeta.FS, error) {
	s.fsMu.Lock()
	defer s.fsMu.Unlock()
	if f := s.fss[dev]; f != nil {
		return f, nil
	}
	f, err := filemeta.Of(fd)
	if err != nil {
		return nil, fmt.Errorf("ask for its file system: %w", err)
	}
	s.fss[dev] = f
	return f, nil
}

// open opens a directory and lists it.
func (r *reader) open(t *dirTask) {
	it := &t.it
	fd, err := openDir(it.dir.fd, it.entry.Name)
	if err != nil {
		it.leftOut(err)
		return
	}
	if err := unix.Fstat(fd, &it.stat); err != nil {
		it.leftOut(err)
		_ = unix.Close(fd)
		return
	}
	d := &dir{above: it.dir, name: it.entry.Name, fd: fd, dev: it.stat.Dev, fs: it.dir.fs}
	d.users.Store(1)
	if d.dev != it.dir.dev {
		if d.fs, err = r.s.fsOf(fd, d.dev); err != nil {
			it.leftOut(err)
			d.release()
			return
		}
		t.alien = !r.s.enters(d)
	}
	r.s.metadata(it, d.fs, fd)
	if it.step == none {
		d.release()
		return
	}
	t.dir, t.list = d, new(listing)
	if !t.alien {
		t.list = list(fd, r.buf)
	}
}

// tune adds readers as long as that helps.
func (s *scan) tune() {
	const interval = 200 * time.Millisecond
	t := newTuner(s.limit, MaxReaders)
	clock := time.NewTicker(interval)
	defer clock.Stop()
	last := time.Now()
	for {
		select {
		case <-clock.C:
		case <-s.quit:
			return
		}
		s.mu.Lock()
		now := time.Now()
		s.limit = t.next(float64(s.work)/now.Sub(last).Seconds(), s.starved)
		s.work, s.starved, last = 0, false, now
		s.allowed.Broadcast()
		s.mu.Unlock()
	}
}
