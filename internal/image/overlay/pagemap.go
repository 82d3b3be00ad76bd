package overlay

import (
	"fmt"
	"slices"
	"sync"

	format "github.com/holdfast-backup/holdfast/internal/format/overlay"
	"github.com/holdfast-backup/holdfast/internal/image"
)

const (
	defaultPages = 1024
	minPages     = 4

	// maxWalk and maxLoads bound how many pages one question looks at and
	// reads, so that the map is not held for long.
	maxWalk  = 1 << 14
	maxLoads = 16
)

// pageMap is the map: pages in the file, of which a bounded number is in
// memory. Pages that changed stay until they are durable.
type pageMap struct {
	file   file
	blocks int64
	most   int          // pages in memory
	flush  func() error // makes room when too many pages have changed

	mu      sync.Mutex
	cached  map[int64]*page
	ring    []*page // the loaded ones, for the clock
	hand    int
	changed map[int64]*page
	absent  []uint64 // a bit for each page: neither in the file nor in memory
}

// page is a map page in memory. Everything is guarded by pageMap.mu.
type page struct {
	format.Page               // Sequence is that of the durable version
	version     uint64        // counts changes
	used        bool          // since the clock's hand came by
	loading     chan struct{} // closed when it is there; nil then
	err         error
}

// newPageMap asks the file system which pages there are.
func newPageMap(f file, size int64, most int) (*pageMap, error) {
	if most <= 0 {
		most = defaultPages
	}
	pages := format.Pages(size)
	m := &pageMap{
		file: f, blocks: format.Blocks(size), most: max(most, minPages),
		cached: map[int64]*page{}, changed: map[int64]*page{},
		absent: make([]uint64, (pages+63)/64),
	}
	end := format.SlotOffset(pages, 0)
	for at := format.SlotOffset(0, 0); at < end; {
		e, err := f.Extent(at, end)
		if err != nil {
			return nil, err
		}
		if e.Kind == image.Zero {
			first := (at - format.HeaderSize + 2*format.PageSize - 1) / (2 * format.PageSize)
			last := (e.End() - format.HeaderSize) / (2 * format.PageSize)
			for i := first; i < last; i++ {
				m.absent[i/64] |= 1 << (i % 64)
			}
		}
		at = e.End()
	}
	return m, nil
}

func (m *pageMap) isAbsent(i int64) bool { return m.absent[i/64]>>(i%64)&1 != 0 }

// get returns page i, loaded. mu is held before and after, but not while it
// reads. An absent page is nil unless it shall be made.
func (m *pageMap) get(i int64, make bool) (*page, error) {
	for {
		p := m.cached[i]
		switch {
		case p == nil && m.isAbsent(i):
			if !make {
				return nil, nil
			}
			p = &page{Page: format.Page{Index: i}}
			m.absent[i/64] &^= 1 << (i % 64)
			m.keep(p)
			return p, nil
		case p == nil:
			return m.load(i)
		case p.loading == nil:
			p.used = true
			return p, nil
		}
		wait := p.loading
		m.mu.Unlock()
		<-wait
		m.mu.Lock()
		if p.err != nil {
			return nil, p.err
		}
	}
}

// load reads a page for all who want it.
func (m *pageMap) load(i int64) (*page, error) {
	p := &page{loading: make(chan struct{})}
	m.cached[i] = p
	m.mu.Unlock()
	got, err := m.read(i)
	m.mu.Lock()
	close(p.loading)
	p.loading = nil
	if err != nil {
		p.err = err
		delete(m.cached, i)
		return nil, err
	}
	p.Page = *got
	m.keep(p)
	return p, nil
}

func (m *pageMap) read(i int64) (*format.Page, error) {
	b := make([]byte, 2*format.PageSize)
	if err := readFull(m.file, b, format.SlotOffset(i, 0)); err != nil {
		return nil, fmt.Errorf("read map page %d: %w", i, err)
	}
	return format.ChoosePage([2][]byte{b[:format.PageSize], b[format.PageSize:]}, i, m.blocks)
}

// keep takes a page into the cache and lets another one go.
func (m *pageMap) keep(p *page) {
	p.used = true
	m.cached[p.Index] = p
	for tries := 2 * len(m.ring); len(m.ring) >= m.most && tries > 0; tries-- {
		m.hand %= len(m.ring)
		old := m.ring[m.hand]
		switch {
		case m.changed[old.Index] != nil:
		case old.used:
			old.used = false
		default:
			delete(m.cached, old.Index)
			m.absentAgain(old)
			m.ring[m.hand] = p
			m.hand++
			return
		}
		m.hand++
	}
	m.ring = append(m.ring, p)
}

// absentAgain notes a page that was looked at and is not in the file.
func (m *pageMap) absentAgain(p *page) {
	if p.Sequence == 0 {
		m.absent[p.Index/64] |= 1 << (p.Index % 64)
	}
}

// run is the run of blocks of one state that begins at a block, of at most
// limit blocks. It may be shorter than it could.
func (m *pageMap) run(block, limit int64) (s format.State, n int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	loads := 0
	for walked := 0; n < limit && walked < maxWalk; walked++ {
		i, rel := (block+n)/format.PageBlocks, int((block+n)%format.PageBlocks)
		if m.cached[i] == nil && !m.isAbsent(i) {
			if loads++; loads > maxLoads {
				break
			}
		}
		p, err := m.get(i, false)
		if err != nil {
			return 0, 0, err
		}
		most := int(min(limit-n, format.PageBlocks-int64(rel)))
		here, k := format.Base, most
		if p != nil {
			here, k = p.Run(rel, most)
		}
		if n == 0 {
			s = here
		}
		if here != s {
			break
		}
		n += int64(k)
		if k < most {
			break
		}
	}
	return s, n, nil
}

// set gives blocks a state.
func (m *pageMap) set(block, n int64, s format.State) error {
	for n > 0 {
		i, rel := block/format.PageBlocks, int(block%format.PageBlocks)
		k := min(n, format.PageBlocks-int64(rel))
		done, err := m.setIn(i, rel, int(k), s)
		if err != nil {
			return err
		}
		if !done {
			if err := m.flush(); err != nil {
				return err
			}
			continue
		}
		block, n = block+k, n-k
	}
	return nil
}

// setIn changes one page, unless too many others have changed already.
func (m *pageMap) setIn(i int64, rel, n int, s format.State) (done bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.changed[i] == nil && len(m.changed) >= m.most/2 {
		return false, nil
	}
	p, err := m.get(i, true)
	if err != nil {
		return false, err
	}
	if here, k := p.Run(rel, n); here == s && k == n {
		return true, nil
	}
	p.Set(rel, n, s)
	p.version++
	m.changed[i] = p
	return true, nil
}

// update is a page on its way to the file.
type update struct {
	page    *page
	next    format.Page
	version uint64
}

// updates copies what has changed, in the order of the file.
func (m *pageMap) updates() []update {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]update, 0, len(m.changed))
	for _, p := range m.changed {
		u := update{page: p, next: p.Page, version: p.version}
		u.next.Sequence++
		all = append(all, u)
	}
	slices.SortFunc(all, func(a, b update) int { return int(a.next.Index - b.next.Index) })
	return all
}

// write puts the copies into the slots that do not hold.
func (m *pageMap) write(all []update) error {
	b := make([]byte, 0, format.PageSize)
	for i := range all {
		p := &all[i].next
		b = p.Append(b[:0])
		if _, err := m.file.WriteAt(b, format.SlotOffset(p.Index, p.Slot())); err != nil {
			return fmt.Errorf("write map page %d: %w", p.Index, err)
		}
	}
	return nil
}

// durable notes that the copies are.
func (m *pageMap) durable(all []update) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range all {
		p := all[i].page
		p.Sequence = all[i].next.Sequence
		if p.version == all[i].version {
			delete(m.changed, p.Index)
		}
	}
}
