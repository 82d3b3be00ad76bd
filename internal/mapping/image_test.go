package mapping

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/image"
)

// memory is a device in memory.
type memory struct {
	mu      sync.RWMutex
	b       []byte
	flushes int
	bad     int64         // reads that touch this byte fail; negative: none
	block   chan struct{} // reads wait for it
}

func newMemory(size int) *memory { return &memory{b: make([]byte, size), bad: -1} }

func random(size int) *memory {
	m := newMemory(size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(m.b)
	return m
}

func (m *memory) Size() int64 { return int64(len(m.b)) }

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	m.mu.RLock()
	block := m.block
	m.mu.RUnlock()
	if block != nil {
		<-block
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.bad >= 0 && off <= m.bad && m.bad < off+int64(len(p)) {
		return 0, errors.New("chunk is damaged")
	}
	n := copy(p, m.b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return copy(m.b[off:], p), nil
}

func (m *memory) Zero(off, n int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.b[off : off+n])
	return nil
}

func (m *memory) Discard(off, n int64) error { return nil }

func (m *memory) Flush() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.flushes++
	return nil
}

// readOnly hides that an image can be written.
type readOnly struct{ image.Image }

var _ image.Device = (*memory)(nil)

// missing skips a test, or fails it where everything has to be there.
func missing(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func needLoop(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "needs root")
	}
	for _, f := range []string{"/dev/fuse", "/dev/loop-control"} {
		if _, err := os.Stat(f); err != nil {
			missing(t, err.Error())
		}
	}
}

// eventually polls the kernel or another process.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}
