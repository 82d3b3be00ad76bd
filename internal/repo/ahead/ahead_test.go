package ahead_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
	"github.com/holdfast-backup/holdfast/internal/repo/ahead"
)

// network answers each call after a second.
type network struct {
	size int // of a chunk

	mu         sync.Mutex
	asked      int
	busy, most int
	err        error
}

func (n *network) get(ctx context.Context, d digest.Digest, place func(int) ([]byte, error)) ([]byte, error) {
	n.mu.Lock()
	n.asked++
	n.busy++
	n.most = max(n.most, n.busy)
	err := n.err
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		n.busy--
		n.mu.Unlock()
	}()
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	raw, err := place(n.size)
	if err == nil {
		clear(raw)
		copy(raw, d[:])
	}
	return raw, err
}

func (n *network) calls() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked
}

func names(n int) []digest.Digest {
	ds := make([]digest.Digest, n)
	for i := range ds {
		ds[i] = digest.Of([]byte{byte(i), byte(i >> 8)})
	}
	return ds
}

func read(t *testing.T, f *ahead.Fetcher, d digest.Digest) {
	t.Helper()
	raw, err := f.Read(t.Context(), d, nil)
	if err != nil || !bytes.HasPrefix(raw, d[:]) {
		t.Errorf("chunk %s: %d bytes, %v", d, len(raw), err)
	}
}

func TestWhatWasAnnouncedComesAsManyAtATimeAsTheLimitsAllow(t *testing.T) {
	for _, tc := range []struct {
		name   string
		limits ahead.Limits
		size   int
		most   int
		within time.Duration
	}{
		{"many small chunks", ahead.Limits{Chunks: 64, Bytes: 256 << 20}, 1 << 10, 64, 4 * time.Second},
		{"large ones", ahead.Limits{Chunks: 64, Bytes: 16 << 20}, 4 << 20, 8, 50 * time.Second},
		{"one by one", ahead.Limits{Chunks: 64, Bytes: 1}, 1 << 10, 1, 200 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &network{size: tc.size}
				f := ahead.New(t.Context(), tc.limits, n.get)
				defer f.Close()
				ds := names(192)
				start := time.Now()
				f.Prefetch(ds)
				f.Prefetch(ds[:100]) // announced already
				for _, d := range ds {
					read(t, f, d)
				}
				if got := n.calls(); n.most != tc.most || got != len(ds) {
					t.Errorf("%d calls, %d at a time, want %d and %d", got, n.most, len(ds), tc.most)
				}
				if took := time.Since(start); took > tc.within {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

func TestTheFirstChunksOfAReaderDriveNothingOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{size: 100}
		f := ahead.New(t.Context(), ahead.Limits{Chunks: 4, Bytes: 64 << 20}, n.get)
		defer f.Close()
		ds := names(40)
		f.Prefetch(ds[8:]) // by readers that begin with 8 others
		time.Sleep(time.Second / 2)
		for _, d := range ds {
			read(t, f, d)
		}
		if got := n.calls(); got != len(ds) {
			t.Errorf("%d calls for %d chunks", got, len(ds))
		}
	})
}

func TestAWrongGuessMakesRoomForWhatIsNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{size: 100}
		f := ahead.New(t.Context(), ahead.Limits{Chunks: 4, Bytes: 64 << 20}, n.get)
		defer f.Close()
		ds := names(100)
		f.Prefetch(ds[:8]) // nobody reads them: 4 come, 4 wait in line
		time.Sleep(2 * time.Second)
		for i := 10; i < 60; i++ {
			read(t, f, ds[i])
		}
		f.Prefetch(ds[60:64])
		time.Sleep(2 * time.Second)
		before := n.calls()
		for i := 60; i < 64; i++ {
			read(t, f, ds[i])
		}
		if after := n.calls(); after != before {
			t.Errorf("%d chunks that were announced had not come", after-before)
		}
	})
}

func TestAFailureAheadIsTriedAgainWhenTheChunkIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		n := &network{size: 100, err: broken}
		f := ahead.New(t.Context(), ahead.Limits{Chunks: 4, Bytes: 64 << 20}, n.get)
		defer f.Close()
		ds := names(2)
		f.Prefetch(ds)
		time.Sleep(2 * time.Second)
		if _, err := f.Read(t.Context(), ds[0], nil); !errors.Is(err, broken) {
			t.Errorf("err = %v", err)
		}
		n.mu.Lock()
		n.err = nil
		n.mu.Unlock()
		read(t, f, ds[1])
	})
}

func TestCloseEndsWhatIsOnItsWayAndFreesEveryBuffer(t *testing.T) {
	before := pagebuf.Outstanding()
	synctest.Test(t, func(t *testing.T) {
		n := &network{size: 1 << 20}
		f := ahead.New(t.Context(), ahead.Limits{Chunks: 8, Bytes: 1 << 30}, n.get)
		ds := names(64)
		f.Prefetch(ds)
		raw, back, err := f.Lend(t.Context(), ds[3])
		if err != nil || !bytes.HasPrefix(raw, ds[3][:]) {
			t.Errorf("lent: %d bytes, %v", len(raw), err)
		}
		back()
		short, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("gone")
		go cancel(gone)
		if _, err := f.Read(short, ds[60], nil); !errors.Is(err, gone) && !errors.Is(err, context.Canceled) {
			t.Errorf("err = %v", err)
		}
		start := time.Now()
		f.Close()
		if took := time.Since(start); took > 0 {
			t.Errorf("closing waited %v", took)
		}
	})
	if after := pagebuf.Outstanding(); after != before {
		t.Errorf("%d buffers are left", after-before)
	}
}
