package torture

import (
	"bytes"
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// snapshot names one snapshot of vm/ID.
type snapshot struct {
	id   string
	time int64
}

func (s snapshot) String() string {
	return "vm/" + s.id + "/" + time.Unix(s.time, 0).UTC().Format(time.RFC3339)
}

const (
	imageSize  = 1<<20 - 700
	imageChunk = 64 << 10
)

// model is what the processes were told and what they answered.
type model struct {
	mu     sync.Mutex
	clock  int64
	images map[string][]byte // what each guest holds now
	must   map[snapshot][]byte
	may    map[snapshot][]byte // interrupted while being made or removed
	tried  map[snapshot]bool   // what a prune may have seen

	acknowledged, whole, absent int
}

func newModel() *model {
	return &model{clock: 1_700_000_000, images: map[string][]byte{}, must: map[snapshot][]byte{}, may: map[snapshot][]byte{}, tried: map[snapshot]bool{}}
}

// begin names the next backup of a guest, whose image has changed a little. Now
// and then a part of it is as it was in another backup, or another guest's.
func (m *model) begin(id string, rng *rand.Rand) (snapshot, []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	img := m.images[id]
	if img == nil {
		img = make([]byte, imageSize)
		noise(rng, img)
	}
	img = bytes.Clone(img)
	for range 1 + rng.IntN(3) {
		at := rng.IntN(imageSize/imageChunk) * imageChunk
		part := img[at:min(at+imageChunk, len(img))]
		switch old := m.any(rng); {
		case old != nil && rng.IntN(3) == 0:
			copy(part, old[at:])
		case rng.IntN(4) == 0:
			clear(part)
		default:
			noise(rng, part)
		}
	}
	m.images[id] = img
	m.clock++
	n := snapshot{id, m.clock}
	m.may[n], m.tried[n] = img, true
	return n, img
}

// any is the content of some snapshot, perhaps one whose removal was begun.
func (m *model) any(rng *rand.Rand) []byte {
	for _, from := range []map[snapshot][]byte{m.may, m.must} {
		if len(from) > 0 && rng.IntN(2) == 0 {
			all := slices.SortedFunc(maps.Keys(from), compare)
			return from[all[rng.IntN(len(all))]]
		}
	}
	return nil
}

func compare(a, b snapshot) int { return int(a.time - b.time) }

func noise(rng *rand.Rand, b []byte) {
	var word [8]byte
	for i := 0; i < len(b); i += len(word) {
		binary.LittleEndian.PutUint64(word[:], rng.Uint64())
		copy(b[i:], word[:])
	}
}

// made says that a backup was acknowledged. It may be removed already, if a
// removal was aimed at it meanwhile.
func (m *model) made(n snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.acknowledged++
	m.must[n] = m.may[n]
	delete(m.may, n)
	m.outlive(n.id)
}

// refused says that a backup did not start.
func (m *model) refused(n snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.may, n)
	delete(m.tried, n)
}

// doom chooses a snapshot to be forgotten, among those that are there.
func (m *model) doom(rng *rand.Rand) (snapshot, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := slices.SortedFunc(maps.Keys(m.must), compare)
	if len(all) < 4 {
		return snapshot{}, false
	}
	n := all[rng.IntN(len(all))]
	m.may[n] = m.must[n]
	delete(m.must, n)
	return n, true
}

// gone says that a snapshot was removed.
func (m *model) gone(n snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.may, n)
}

// outlived says that a prune may have removed what is not among the newest of
// a group, counting all that may have been there.
func (m *model) outlived(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.outlive(id)
}

func (m *model) outlive(id string) {
	var times []int64
	for n := range m.tried {
		if n.id == id {
			times = append(times, n.time)
		}
	}
	slices.Sort(times)
	for i := range max(0, len(times)-keepLast) {
		n := snapshot{id, times[i]}
		if img, ok := m.must[n]; ok {
			m.may[n] = img
			delete(m.must, n)
		}
	}
}

// pick chooses a snapshot that may be there.
func (m *model) pick(rng *rand.Rand) (snapshot, []byte, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := slices.SortedFunc(maps.Keys(m.must), compare)
	if len(all) == 0 {
		return snapshot{}, nil, false
	}
	n := all[rng.IntN(len(all))]
	return n, m.must[n], true
}

// content is what a snapshot must restore to.
func (m *model) content(n snapshot) ([]byte, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if img, ok := m.must[n]; ok {
		return img, true
	}
	img, ok := m.may[n]
	return img, ok
}

// settle makes facts of what is there, and returns what should be and is not.
func (m *model) settle(present map[snapshot]bool) (lost []snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for n, img := range m.may {
		if present[n] {
			m.must[n] = img
			m.whole++
		} else {
			m.absent++
		}
	}
	clear(m.may)
	m.tried = maps.Clone(present)
	for n := range m.must {
		if !present[n] {
			lost = append(lost, n)
		}
	}
	return lost
}
