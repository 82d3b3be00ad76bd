package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Stream reads a range of a file archive from its beginning to its end, with
// several workers before it, and announces chunks to a snapshot that is [Distant] as far
// ahead as it wants. It belongs to one goroutine, and Close must be
// called. What comes out of Read is proven, up to the byte before an error.
//
// Memory: for each worker an encoded chunk; of decoded ones that are in work or
// wait to be read 48 MiB, or two of the archive's largest if that is more; and
// spare buffers, at most two more than twice the workers, of half the largest
// chunk. Of a buffer only what the chunk fills takes memory.
type Stream struct {
	x       *Dynamic
	snap    repo.Snapshot
	distant Distant // snap, if it is; nil
	ctx     context.Context
	cancel  context.CancelCauseFunc
	unhook  func() bool
	work    sync.WaitGroup

	end  int64 // of the range
	off  int64 // of the next byte that Read returns
	cur  *pair // being read
	part int   // of cur
	fail error // of an earlier read

	mu      sync.Mutex
	changed sync.Cond
	next    int           // chunk that nobody has taken
	told    int           // chunks before it were announced
	last    int           // chunk behind the range
	read    int           // chunk that is read next
	ready   map[int]*pair // by their first chunk
	spare   []*pair
	pairs   int // that there are
	most    int
	held    int64 // bytes of chunks in work, waiting, or being read
}

// heldMost bounds what is fetched ahead of the reader, in bytes.
const heldMost = 48 << 20

// pair is two chunks, which are hashed together.
type pair struct {
	first  int
	n      int
	bounds [lanes + 1]int64
	bytes  int64 // from first to last, when it was taken
	bufs   [lanes]*pagebuf.Buffer
	chunks [lanes]Chunk
	err    error // of the index
}

const lanes = 2

// NewStream reads the n bytes at off; n is -1 for all that follow. workers is 0
// for as many as there are CPUs.
func NewStream(ctx context.Context, snap repo.Snapshot, x *Dynamic, off, n int64, workers int) (*Stream, error) {
	if n < 0 {
		n = x.Size() - off
	}
	if off < 0 || n < 0 || n > x.Size()-off {
		return nil, fmt.Errorf("archive %s: bytes %d to %d of %d", x.Name, off, off+n, x.Size())
	}
	if workers <= 0 {
		workers = min(runtime.GOMAXPROCS(0)+1, 6) // one waits for the disk
	}
	s := &Stream{x: x, snap: snap, off: off, end: off + n, ready: map[int]*pair{}, most: workers + 1}
	s.changed.L = &s.mu
	s.distant, _ = snap.(Distant)
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	if n == 0 {
		s.unhook = func() bool { return true }
		return s, nil
	}
	first, _, _, err := x.Find(off)
	if err != nil {
		return nil, fmt.Errorf("archive %s: %w", x.Name, err)
	}
	last, _, _, err := x.Find(s.end - 1)
	if err != nil {
		return nil, fmt.Errorf("archive %s: %w", x.Name, err)
	}
	s.next, s.read, s.last = first, first, last+1
	s.unhook = context.AfterFunc(s.ctx, func() {
		s.mu.Lock()
		s.changed.Broadcast()
		s.mu.Unlock()
	})
	for range min(workers, (last-first)/lanes+1) {
		s.work.Go(s.run)
	}
	return s, nil
}

// Close ends the workers and frees everything. The index and the snapshot stay
// open.
func (s *Stream) Close() {
	s.cancel(fs.ErrClosed)
	s.work.Wait()
	s.unhook()
	for _, p := range s.ready {
		p.free()
	}
	for _, p := range s.spare {
		p.free()
	}
	if s.cur != nil {
		s.cur.free()
	}
	s.ready, s.spare, s.cur = nil, nil, nil
	s.fail = fs.ErrClosed
}

func (p *pair) free() { pagebuf.FreeAll(p.bufs[:]) }

// Read returns the next bytes.
func (s *Stream) Read(p []byte) (int, error) {
	b, err := s.peek()
	n := copy(p, b)
	s.off += int64(n)
	return n, err
}

// WriteTo writes all that is left, a chunk at a time.
func (s *Stream) WriteTo(w io.Writer) (n int64, err error) {
	for {
		b, err := s.peek()
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		k, err := w.Write(b)
		n += int64(k)
		s.off += int64(k)
		if err == nil && k < len(b) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return n, err
		}
	}
}

// peek returns the bytes at off, up to the end of their chunk.
func (s *Stream) peek() ([]byte, error) {
	switch {
	case s.fail != nil:
		return nil, s.fail
	case s.off >= s.end:
		return nil, io.EOF
	}
	if s.cur != nil && s.off == s.cur.bounds[s.part+1] {
		if s.part++; s.part == s.cur.n {
			s.giveBack(s.cur)
			s.cur, s.part = nil, 0
		}
	}
	if s.cur == nil {
		if s.cur, s.fail = s.wait(); s.fail != nil {
			return nil, s.fail
		}
	}
	c := s.cur
	if c.err != nil {
		s.fail = fmt.Errorf("archive %s: %w", s.x.Name, c.err)
		return nil, s.fail
	}
	if err := c.chunks[s.part].Err; err != nil {
		if s.ctx.Err() != nil {
			err = context.Cause(s.ctx)
		}
		s.fail = fmt.Errorf("archive %s: bytes %d to %d cannot be read (chunk %s): %w",
			s.x.Name, c.bounds[s.part], c.bounds[s.part+1], c.chunks[s.part].Digest, err)
		return nil, s.fail
	}
	data := c.chunks[s.part].Data
	return data[s.off-c.bounds[s.part] : min(int64(len(data)), s.end-c.bounds[s.part])], nil
}

func (s *Stream) wait() (*pair, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.ready[s.read] == nil {
		if s.ctx.Err() != nil {
			return nil, fmt.Errorf("archive %s: %w", s.x.Name, context.Cause(s.ctx))
		}
		s.changed.Wait()
	}
	p := s.ready[s.read]
	delete(s.ready, s.read)
	s.read += p.n
	return p, nil
}

func (s *Stream) giveBack(p *pair) {
	for i := range p.n { // a buffer of which much was used takes that much memory
		if p.bounds[i+1]-p.bounds[i] > int64(s.x.Most/2) {
			p.bufs[i].Free()
			p.bufs[i] = nil
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held -= p.bytes
	s.spare = append(s.spare, p)
	s.changed.Broadcast()
}

// run fetches pairs until there are no more.
func (s *Stream) run() {
	r, err := ReaderFor(s.snap, s.x.Key, s.x.Most)
	if err != nil {
		s.cancel(err)
		return
	}
	defer r.Close()
	for {
		p, soon := s.take()
		if p == nil {
			return
		}
		if len(soon) > 0 {
			s.distant.Prefetch(soon)
		}
		p.err = s.fill(r, p)
		s.mu.Lock()
		s.ready[p.first] = p
		s.changed.Broadcast()
		s.mu.Unlock()
	}
}

// take returns a pair to be filled, nil at the end, and chunks to be announced
// behind it.
func (s *Stream) take() (*pair, []digest.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.ctx.Err() == nil && s.next < s.last {
		n := len(s.spare)
		bytes, err := s.bytesAhead()
		if err == nil && (n == 0 && s.pairs == s.most || s.held > 0 && s.held+bytes > heldMost) {
			s.changed.Wait()
			continue
		}
		p := new(pair) // an error of the index comes again when it is filled
		if n > 0 {
			p = s.spare[n-1]
			s.spare = s.spare[:n-1]
		} else {
			s.pairs++
		}
		p.first, p.n = s.next, min(lanes, s.last-s.next)
		s.next += p.n
		p.bytes = bytes
		s.held += bytes
		return p, s.soon()
	}
	return nil, nil
}

// Chunks are announced so many at a time, unless fewer are left.
const (
	leastTold = 8
	mostTold  = 64
)

// soon returns chunks that a distant snapshot has not heard of. What cannot be read
// of the index comes again when it is its turn. It is called under the lock.
func (s *Stream) soon() (ds []digest.Digest) {
	if s.distant == nil || s.next == s.last {
		return nil
	}
	chunks, bytes := s.distant.Distance()
	from := max(s.told, s.next)
	to := min(s.next+chunks, from+mostTold, s.last)
	here, _, err := s.x.Bounds(s.next)
	if err != nil || from >= to || to-from < leastTold && to < s.last {
		return nil
	}
	var entries [mostTold]didx.Entry
	if err := s.x.Entries(from, entries[:to-from]); err != nil {
		return nil
	}
	for _, e := range entries[:to-from] {
		if int64(e.End)-here > bytes {
			break
		}
		ds = append(ds, e.Digest)
	}
	if len(ds) < leastTold && from+len(ds) < s.last && from > s.next {
		return nil // later, with others
	}
	s.told = from + len(ds)
	return ds
}

// bytesAhead is the size of the chunks that are taken next.
func (s *Stream) bytesAhead() (int64, error) {
	from, _, err := s.x.Bounds(s.next)
	if err != nil {
		return 0, err
	}
	_, to, err := s.x.Bounds(min(s.next+lanes, s.last) - 1)
	return to - from, err
}

func (s *Stream) fill(r *Reader, p *pair) error {
	var entries [lanes]didx.Entry
	if err := s.x.Entries(p.first, entries[:p.n]); err != nil {
		return err
	}
	start, _, err := s.x.Bounds(p.first)
	if err != nil {
		return err
	}
	p.bounds[0] = start
	var soon [lanes]digest.Digest
	for i, e := range entries[:p.n] {
		n := int64(e.End) - p.bounds[i]
		if n <= 0 || n > int64(s.x.Most) { // it was not so when it was opened
			return &repo.CorruptError{What: "index " + string(s.x.Name), Err: fmt.Errorf("%w: chunk %d has %d bytes", didx.ErrFormat, p.first+i, n)}
		}
		if p.bufs[i] == nil {
			if p.bufs[i], err = pagebuf.New(s.x.Most + Slack); err != nil {
				return err
			}
		}
		p.bounds[i+1] = int64(e.End)
		p.chunks[i] = Chunk{Digest: e.Digest, Data: p.bufs[i].Bytes()[:n:len(p.bufs[i].Bytes())]}
		soon[i] = e.Digest
	}
	if h, ok := s.snap.(Prefetcher); ok && p.n > 1 {
		h.Prefetch(soon[1:p.n])
	}
	r.ReadAll(s.ctx, p.chunks[:p.n])
	return nil
}
