package nbdserver_test

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd/nbdserver"
)

const block = 64 << 10 // the unit in which a disk knows its zeros

// disk is a device in memory. It counts what is done to it.
type disk struct {
	mu                              sync.Mutex
	b                               []byte
	zeroed, discarded, flushed, adv int
	fail                            error         // of everything
	gate                            chan struct{} // if set, reads wait for it
	inMemory                        bool          // TryReadAt answers
}

// newDisk is random, except that every other block is zero.
func newDisk(size int) *disk {
	d := &disk{b: make([]byte, size)}
	rng := rand.NewChaCha8([32]byte{7})
	for i := 0; i < size; i += 2 * block {
		_, _ = rng.Read(d.b[i:min(i+block, size)])
	}
	return d
}

func (d *disk) Size() int64 { return int64(len(d.b)) }

func (d *disk) ReadAt(p []byte, off int64) (int, error) {
	if d.gate != nil {
		<-d.gate
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		return 0, d.fail
	}
	n := copy(p, d.b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (d *disk) TryReadAt(p []byte, off int64) bool {
	if !d.inMemory {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	copy(p, d.b[off:])
	return true
}

func (d *disk) WriteAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		return 0, d.fail
	}
	return copy(d.b[off:], p), nil
}

func (d *disk) Zero(off, n int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.zeroed++
	clear(d.b[off : off+n])
	return d.fail
}

func (d *disk) Discard(_, _ int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.discarded++
	return d.fail
}

func (d *disk) Flush() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.flushed++
	return d.fail
}

func (d *disk) WillNeed(_, _ int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.adv++
}

// ExtentAt gives one block at a time, so that somebody has to merge them.
func (d *disk) ExtentAt(off int64) (image.Extent, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := image.Extent{Offset: off, Length: min(block-off%block, int64(len(d.b))-off), Kind: image.Zero}
	for _, c := range d.b[off-off%block : e.End()] {
		if c != 0 {
			e.Kind = image.Data
			break
		}
	}
	return e, nil
}

var _ image.Device = (*disk)(nil)

// fixed hides that an image can be changed, and everything else it can.
type fixed struct{ image.Image }

// start serves on a unix socket until the test ends, and then demands that
// nothing is left.
func start(tb testing.TB, opts nbdserver.Options) (s *nbdserver.Server, path string) {
	tb.Helper()
	dir, err := os.MkdirTemp("", "nbd") // short: a socket's path has 108 bytes at most
	if err != nil {
		tb.Fatal(err)
	}
	path = filepath.Join(dir, "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		tb.Fatal(err)
	}
	before := pagebuf.Outstanding()
	s = nbdserver.New(opts)
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { done <- s.Serve(ctx, ln) }()
	tb.Cleanup(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			tb.Error("the server does not end")
		}
		_ = os.RemoveAll(dir)
		if n := pagebuf.Outstanding() - before; n != 0 {
			tb.Errorf("%d buffers are left", n)
		}
		nothingRuns(tb)
	})
	return s, path
}

// nothingRuns demands that no goroutine of the server is left.
func nothingRuns(tb testing.TB) {
	tb.Helper()
	buf := make([]byte, 1<<20)
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		all := string(buf[:runtime.Stack(buf, true)])
		if !strings.Contains(all, "nbdserver.(*") {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("goroutines are left:\n%s", all)
		}
	}
}

// connect opens a connection that fails rather than hangs.
func connect(tb testing.TB, path string) *client {
	tb.Helper()
	nc, err := net.Dial("unix", path)
	if err != nil {
		tb.Fatal(err)
	}
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	tb.Cleanup(func() { _ = nc.Close() })
	return &client{tb: tb, nc: nc}
}

// serveOne serves one export and connects to it.
func serveOne(tb testing.TB, e *nbdserver.Export) *client {
	tb.Helper()
	_, path := start(tb, nbdserver.Options{Exports: []*nbdserver.Export{e}})
	return connect(tb, path)
}
