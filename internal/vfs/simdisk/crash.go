package simdisk

import (
	"math/rand/v2"
	"slices"
)

// Mode is a kind of crash.
type Mode int

// The kinds of crash.
const (
	Uniform      Mode = iota // every change survives or not by itself
	Everything               // the power failed right after a write-back that nobody asked for
	Nothing                  // only what was synced
	MetadataOnly             // names and lengths, with zeros for unsynced data
	EmptyFiles               // names, with files as short as they were synced
	Ordered                  // directory changes up to some moment, data at random, as a journal does
	modes
)

func (m Mode) String() string {
	return [...]string{"uniform", "everything", "nothing", "metadata only", "empty files", "ordered"}[m]
}

// Modes lists every kind of crash.
func Modes() []Mode {
	all := make([]Mode, modes)
	for i := range all {
		all[i] = Mode(i)
	}
	return all
}

// Crash cuts the power, starts the machine again and returns its disk. The old
// disk is unchanged and can crash again, in another way.
func (d *Disk) Crash(rng *rand.Rand) *Disk {
	mode := Uniform
	if rng.IntN(2) == 0 {
		mode = Mode(rng.IntN(int(modes)))
	}
	return d.CrashAs(mode, rng)
}

// CrashAs is Crash of one kind.
func (d *Disk) CrashAs(mode Mode, rng *rand.Rand) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := &Disk{next: d.next, seq: d.seq, now: d.now, capacity: d.capacity}
	c.power()
	c.durable = d.durable.fork()
	d.crashEntries(&c.durable, mode, rng)
	inos := make([]uint64, 0, len(d.dirty))
	for ino := range d.dirty {
		inos = append(inos, ino)
	}
	slices.Sort(inos)
	for _, ino := range inos {
		if live, n := d.live.get(ino), c.durable.edit(ino); live != nil && n != nil {
			crashNode(n, live, mode, rng)
		}
	}
	c.live = c.durable.fork()
	if c.capacity > 0 {
		c.used = c.measure(rootIno) - nameCost
	}
	return c
}

// crashEntries applies the directory changes that survive.
func (d *Disk) crashEntries(t *tree, mode Mode, rng *rand.Rand) {
	upTo := len(d.pending)
	if mode == Ordered {
		upTo = rng.IntN(upTo + 1)
	}
	chance := rng.IntN(9) // in eighths; so that "almost all" and "almost none" happen too
	lost := make([]bool, len(d.pending))
	for i, o := range d.pending {
		switch mode {
		case Nothing:
			lost[i] = true
		case Ordered:
			lost[i] = i >= upTo
		case Uniform:
			lost[i] = rng.IntN(8) >= chance || d.lostDep(o, lost)
		}
		switch {
		case !lost[i]:
			o.apply(t)
		case o.from.dir == 0:
			t.drop(o.ino) // never had a name
		}
	}
}

func (d *Disk) lostDep(o *op, lost []bool) bool {
	for _, dep := range o.deps {
		i, ok := slices.BinarySearchFunc(d.pending, dep, func(o *op, seq uint64) int {
			return int(int64(o.seq) - int64(seq))
		})
		if ok && lost[i] {
			return true
		}
	}
	return false
}

// crashNode mixes into n, which is as it was synced, what was done since.
func crashNode(n, live *node, mode Mode, rng *rand.Rand) {
	if mode == Nothing {
		return
	}
	if mode == Everything || rng.IntN(2) == 0 {
		n.atime = live.atime
	}
	if mode == Everything || rng.IntN(2) == 0 {
		n.mtime = live.mtime
	}
	if !n.mode.IsRegular() {
		return
	}
	m := mixer{synced: *n, live: live, rng: rng}
	switch mode {
	case Everything:
		m.page, m.size = m.keep, live.size
	case MetadataOnly:
		m.page, m.size = m.zero, live.size
	case EmptyFiles:
		m.page, m.size = m.lose, n.size
	default:
		m.page, m.size = m.any(), m.length()
	}
	n.pages, n.shared, n.size, n.mid = m.mix(), false, m.size, nil
}

// mixer makes the content of a file after a crash.
type mixer struct {
	synced node
	live   *node
	rng    *rand.Rand
	size   int64
	page   func(i int) []byte
}

func (m *mixer) length() int64 {
	low, high := min(m.synced.size, m.live.size), max(m.synced.size, m.live.size)
	switch m.rng.IntN(4) {
	case 0:
		return m.synced.size
	case 1:
		if low < high {
			return low + m.rng.Int64N(high-low+1)
		}
	}
	return m.live.size
}

func (m *mixer) mix() [][]byte {
	count := int((m.size + pageSize - 1) / pageSize)
	count = min(count, max(len(m.synced.pages), len(m.live.pages)))
	pages := make([][]byte, count)
	for i := range pages {
		p := m.live.page(i)
		if !samePage(p, m.synced.page(i)) {
			p = m.page(i)
		}
		if room := m.size - int64(i)*pageSize; int64(len(p)) > room {
			p = p[:room:room]
		}
		pages[i] = p
	}
	return pages
}

func (m *mixer) keep(i int) []byte { return m.live.page(i) }
func (m *mixer) lose(i int) []byte { return m.synced.page(i) }

// zero keeps what was synced: only blocks that the file did not have before
// can appear without their content.
func (m *mixer) zero(i int) []byte { return m.synced.page(i) }

// any chooses what happens to the pages of one file.
func (m *mixer) any() func(i int) []byte {
	switch m.rng.IntN(6) {
	case 0:
		return m.keep
	case 1:
		return m.lose
	}
	torn := 8 // that many pages are made of single sectors, to save time
	return func(i int) []byte {
		k := m.rng.IntN(8)
		switch {
		case k < 2 && torn > 0:
			torn--
			return m.tear(i)
		case k < 5:
			return m.keep(i)
		case k < 6:
			return m.older(i)
		}
		return m.lose(i)
	}
}

// older is a content from between the sync and the crash.
func (m *mixer) older(i int) []byte {
	var found []byte
	seen := 0
	for _, v := range m.live.mid {
		if v.page == i {
			if seen++; m.rng.IntN(seen) == 0 {
				found = v.data
			}
		}
	}
	if seen == 0 {
		return m.lose(i)
	}
	return found
}

// tear takes each sector from another content.
func (m *mixer) tear(i int) []byte {
	kinds := [][]byte{m.keep(i), m.lose(i), m.keep(i), m.older(i)}
	page := make([]byte, pageSize)
	longest := 0
	for at := 0; at < pageSize; at += sectorSize {
		sector := page[at : at+sectorSize]
		old, now := cut(m.lose(i), at), cut(m.keep(i), at)
		switch k := m.rng.IntN(16); {
		case k == 0 && !slices.Equal(old, now):
			for j := range sector {
				sector[j] = byte(m.rng.Uint32())
			}
		default:
			copy(sector, cut(kinds[k%len(kinds)], at))
		}
	}
	for _, k := range kinds {
		longest = max(longest, len(k))
	}
	return page[:longest:longest]
}

// cut is the sector of a page that starts at off, as far as the page reaches.
func cut(page []byte, off int) []byte {
	if off >= len(page) {
		return nil
	}
	return page[off:min(len(page), off+sectorSize)]
}

// measure is the space of everything below a node.
func (d *Disk) measure(ino uint64) int64 {
	n := d.live.get(ino)
	sum := n.allocated() + nameCost
	for _, e := range n.entries {
		sum += d.measure(e.ino)
	}
	return sum
}
