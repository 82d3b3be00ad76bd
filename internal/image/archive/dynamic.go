package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sort"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/fetch"
)

// Dynamic is the content of a file archive, an [io.ReaderAt] of known size. It is
// safe for concurrent use. Close must be called; the snapshot stays open.
type Dynamic struct {
	user
	x     *fetch.Dynamic
	table table[didx.Entry]
	tops  []uint64 // the last end of each page of the table
	ahead follower
}

var _ io.ReaderAt = (*Dynamic)(nil)

// OpenDynamic opens a file archive of a snapshot. When ctx ends, so do all
// reads. cache may be nil, for one of its own of [DefaultCache] bytes.
func OpenDynamic(ctx context.Context, snap repo.Snapshot, name names.Archive, key *chunkcrypt.Key, cache *Cache) (*Dynamic, error) {
	x, err := fetch.OpenDynamic(snap, name, key)
	if err != nil {
		return nil, err
	}
	d := &Dynamic{x: x}
	err = x.Each(func(i int, _, end int64, _ digest.Digest) error {
		if i%pageSlots == pageSlots-1 || i == x.Count()-1 {
			d.tops = append(d.tops, uint64(end))
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("archive %s: %w", name, err), x.Close())
	}
	d.snap, d.key, d.most = snap, x.Key, x.Most
	d.start(ctx, cache, 0)
	d.table.count, d.table.read = x.Count(), x.Entries
	return d, nil
}

// Close ends reads that are on their way, waits for them and frees everything
// but what a shared cache keeps.
func (d *Dynamic) Close() error {
	if !d.end() {
		return nil
	}
	return d.x.Close()
}

// Size is that of the archive in bytes.
func (d *Dynamic) Size() int64 { return d.x.Size() }

// span is one chunk of the archive.
type span struct {
	slot       int
	start, end int64
	digest     digest.Digest
}

// find returns the chunk that holds the byte at off, which is in the archive.
func (d *Dynamic) find(off int64) (span, error) {
	no := sort.Search(len(d.tops), func(i int) bool { return d.tops[i] > uint64(off) })
	return d.page(no, func(p *page[didx.Entry], n int) int {
		return sort.Search(n, func(i int) bool { return p.d[i].End > uint64(off) })
	})
}

// at returns a chunk that there is.
func (d *Dynamic) at(slot int) (span, error) {
	return d.page(slot/pageSlots, func(*page[didx.Entry], int) int { return slot % pageSlots })
}

// page picks a chunk of a page. The index was checked as a whole when it was
// opened; what comes from the disk again is checked again.
func (d *Dynamic) page(no int, pick func(p *page[didx.Entry], n int) int) (span, error) {
	p := d.table.find(no)
	if p == nil {
		var err error
		if p, err = d.table.load(no); err != nil {
			return span{}, err
		}
	}
	n := min(pageSlots, d.x.Count()-no*pageSlots)
	k := pick(p, n)
	var from, to uint64
	switch {
	case k > 0:
		from = p.d[k-1].End
	case no > 0:
		from = d.tops[no-1]
	}
	if k < n {
		to = p.d[k].End
	}
	if to <= from || to-from > uint64(d.most) || to > uint64(d.Size()) {
		return span{}, &repo.CorruptError{What: "index " + string(d.x.Name), Err: fmt.Errorf("%w: it has changed near chunk %d since it was opened", didx.ErrFormat, no*pageSlots+k)}
	}
	return span{no*pageSlots + k, int64(from), int64(to), p.d[k].Digest}, nil
}

// ReadAt reads plain data.
func (d *Dynamic) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("archive %s: read at negative offset %d", d.x.Name, off)
	}
	if d.ctx.Err() != nil {
		return 0, fmt.Errorf("archive %s: %w", d.x.Name, context.Cause(d.ctx))
	}
	c := &d.count[uint(off>>12)%uint(len(d.count))]
	for n < len(p) && off < d.Size() {
		k, err := d.part(p[n:], off)
		n, off = n+k, off+int64(k)
		if err != nil {
			c.errors.Add(1)
			return n, err
		}
	}
	c.reads.Add(1)
	c.bytes.Add(int64(n))
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// part reads from one chunk.
func (d *Dynamic) part(p []byte, off int64) (int, error) {
	if !d.enter() {
		return 0, fmt.Errorf("archive %s: %w", d.x.Name, fs.ErrClosed)
	}
	defer d.leave()
	s, err := d.find(off)
	if err != nil {
		return 0, fmt.Errorf("archive %s: %w", d.x.Name, err)
	}
	sequential := d.follow(s)
	id := d.name(s)
	e, how, err := d.cache.get(d.ctx, &d.user, id, nil)
	if err != nil {
		if d.ctx.Err() != nil {
			err = context.Cause(d.ctx)
		}
		return 0, fmt.Errorf("archive %s: bytes %d to %d cannot be read (chunk %s): %w", d.x.Name, s.start, s.end, s.digest, err)
	}
	d.cache.touch(e, sequential || how == missed)
	n := copy(p, e.data[off-s.start:])
	d.cache.release(e)
	count := &d.count[s.slot%len(d.count)]
	switch how {
	case hit:
		count.hits.Add(1)
	case shared:
		count.shared.Add(1)
	case missed:
		count.misses.Add(1)
	}
	return n, nil
}

func (d *Dynamic) name(s span) name {
	return name{digest: s.digest, space: d.space, length: uint32(s.end - s.start)}
}

// follower finds readers that go from chunk to chunk.
type follower struct {
	mu   sync.Mutex
	now  int64
	list [maxStreams]cursor
}

// cursor is one reader.
type cursor struct {
	slot   int   // it is here
	run    int   // chunks that it came along without a gap; 0: no reader
	issued int   // chunks before this one were fetched ahead
	used   int64 // when it was seen last
}

// follow notes that a chunk is read, and has those fetched that come next when
// its reader has come along some way. It reports whether he has.
func (d *Dynamic) follow(s span) (sequential bool) {
	f := &d.ahead
	f.mu.Lock()
	c := f.observe(s.slot)
	sequential = c.run > 1
	first, last := c.issued, min(s.slot+2*c.run, s.slot+maxWindow, d.x.Count()-1)
	if sequential {
		c.issued = max(first, last+1) // nobody else is to fetch them
	}
	f.mu.Unlock()
	if !sequential || first > last {
		return sequential
	}
	if next := d.lead(s, first, last); next <= last {
		f.mu.Lock()
		if c.run > 1 && c.slot >= s.slot {
			c.issued = max(next, c.slot+1)
		}
		f.mu.Unlock()
	}
	return sequential
}

// observe returns the reader who reads a chunk, perhaps a new one.
func (f *follower) observe(slot int) *cursor {
	f.now++
	oldest := &f.list[0]
	for k := range f.list {
		c := &f.list[k]
		if c.run > 0 && (c.slot == slot || c.slot+1 == slot) {
			c.used = f.now
			if c.slot != slot {
				c.slot, c.run = slot, c.run+1
				c.issued = max(c.issued, slot+1)
			}
			return c
		}
		if c.used < oldest.used {
			oldest = c
		}
	}
	*oldest = cursor{slot: slot, run: 1, issued: slot + 1, used: f.now}
	return oldest
}

// lead fetches chunks that come after one, as far as a quarter of the cache
// holds what is between. It returns the first that is left. A reader who comes
// to a chunk that is on its way waits for it.
func (d *Dynamic) lead(after span, first, last int) (next int) {
	room := min(maxAhead, d.cache.limit/4)
	var all []slotName
	for next = first; next <= last; next++ {
		s, err := d.at(next)
		if err != nil || s.end-after.end > room && next > after.slot+1 {
			break // the read will say so, or come back to it
		}
		if n := d.name(s); !d.cache.has(&n) {
			all = append(all, slotName{next, n})
		}
	}
	d.announce(all)
	for pair := range slices.Chunk(all, lanes) {
		if d.enter() {
			go func() {
				defer d.leave()
				d.fetchAhead(pair)
			}()
		}
	}
	return next
}

// announce tells a distant snapshot what will be fetched, for which there are more
// chunks than loaders.
func (d *Dynamic) announce(slots []slotName) {
	far, ok := d.snap.(fetch.Distant)
	if !ok || len(slots) == 0 {
		return
	}
	var ds []digest.Digest
	for _, s := range slots {
		ds = append(ds, s.name.digest)
	}
	far.Prefetch(ds)
}
