package restore_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
	"github.com/holdfast-backup/holdfast/internal/zero"
)

const (
	chunk = 256 << 10 // of all tests; large enough for holes inside
	disk  = names.Archive("disk.img.fidx")
)

// memTarget is a target in memory that holds its users to the contract.
type memTarget struct {
	fresh, ordered bool
	fail           func(op string) error

	mu       sync.Mutex
	b        []byte
	touched  []bool // blocks written or zeroed
	end      int64  // of the last call, when ordered
	written  int64
	finished bool
}

func newTarget(b []byte, fresh bool) *memTarget {
	return &memTarget{fresh: fresh, b: b, touched: make([]bool, len(b)/zero.BlockSize+1)}
}

func (m *memTarget) Fresh() bool      { return m.fresh }
func (m *memTarget) Sequential() bool { return m.ordered }

func (m *memTarget) do(op string, off, n int64, f func()) error {
	if m.fail != nil {
		if err := m.fail(op); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if off < 0 || n <= 0 || off+n > int64(len(m.b)) || m.finished {
		return fmt.Errorf("%s [%d,+%d) of %d, finished %v", op, off, n, len(m.b), m.finished)
	}
	if m.ordered {
		if off < m.end {
			return fmt.Errorf("%s at %d after %d", op, off, m.end)
		}
		m.end = off + n
	}
	for i := off / zero.BlockSize; i <= (off+n-1)/zero.BlockSize; i++ {
		if m.touched[i] {
			return fmt.Errorf("%s [%d,+%d): block %d was done already", op, off, n, i)
		}
		m.touched[i] = true
	}
	f()
	return nil
}

func (m *memTarget) WriteAt(p []byte, off int64) (int, error) {
	err := m.do("write", off, int64(len(p)), func() {
		copy(m.b[off:], p)
		m.written += int64(len(p))
	})
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func (m *memTarget) Zero(off, n int64) error {
	return m.do("zero", off, n, func() { clear(m.b[off : off+n]) })
}

func (m *memTarget) Finish() error {
	if m.fail != nil {
		if err := m.fail("finish"); err != nil {
			return err
		}
	}
	m.finished = true
	return nil
}

func (m *memTarget) Close() error { return nil }

// readable is a memTarget that can be compared with.
type readable struct{ *memTarget }

func (r readable) Size() int64 { return int64(len(r.b)) }

func (r readable) ReadAt(p []byte, off int64) (int, error) {
	if r.fail != nil {
		if err := r.fail("read target"); err != nil {
			return 0, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.NewReader(r.b).ReadAt(p, off)
}

var (
	_ image.Target = (*memTarget)(nil)
	_ image.Image  = readable{}
)

func rng(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// content is data and zeros in runs of random length.
func content(seed uint64, size int) []byte {
	rnd := rng(seed)
	b := make([]byte, size)
	for i := 0; i < size; {
		n := min(1+rnd.IntN(3*chunk), size-i)
		if rnd.IntN(2) == 0 {
			fill(rnd, b[i:i+n])
		}
		i += n
	}
	return b
}

func fill(rnd *rand.Rand, b []byte) {
	for i := range b {
		b[i] = "holdfast backup "[rnd.IntN(16)]
	}
}

func key(t testing.TB, b byte) *chunkcrypt.Key {
	t.Helper()
	k, err := chunkcrypt.New([32]byte{b})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func at(n int64) names.Snapshot {
	return names.Snapshot{Group: names.Group{Type: names.VM, ID: "100"}, Time: 1_700_000_000 + n}
}

// save backs an image up as the n-th snapshot and opens it.
func save(t testing.TB, m *repotest.Memory, n int64, b []byte, k *chunkcrypt.Key) *repotest.Snapshot {
	t.Helper()
	return saveChunks(t, m, n, b, k, chunk)
}

// saveSlots backs an image up in chunks of another size.
func saveSlots(t testing.TB, b []byte, size int) *repotest.Snapshot {
	t.Helper()
	return saveChunks(t, repotest.New(), 0, b, nil, size)
}

func saveChunks(t testing.TB, m *repotest.Memory, n int64, b []byte, k *chunkcrypt.Key, size int) *repotest.Snapshot {
	t.Helper()
	j := backup.Job{
		Snapshot: at(n),
		Sources: []backup.Source{
			{Name: disk, Image: bytesImage{bytes.NewReader(b)}},
			{Name: "vm.conf.blob", Data: []byte("cores: 2\n")},
		},
		Options: backup.Options{ChunkSize: size},
	}
	if k != nil {
		j.Options.CryptMode, j.Options.Key = manifest.ModeEncrypt, k
	}
	if _, err := backup.Run(t.Context(), m, j); err != nil {
		t.Fatal(err)
	}
	s, err := m.Open(t.Context(), at(n))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

type bytesImage struct{ *bytes.Reader }

var _ io.ReaderAt = bytesImage{}

func clean(t testing.TB, m *repotest.Memory) {
	t.Helper()
	if n := pagebuf.Outstanding(); n != 0 {
		t.Fatalf("%d buffers were not freed", n)
	}
	if n := m.InUse(); n != 0 {
		t.Fatalf("%d indexes are still open", n)
	}
}

func wantSame(t testing.TB, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("content differs at offset %d", i)
		}
	}
	t.Fatal(errors.New("length differs"))
}
