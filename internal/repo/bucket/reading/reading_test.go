package reading_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/reading"
)

// same reads a chunk and compares it.
func same(t *testing.T, p *reading.Snapshot, c chunk) {
	t.Helper()
	raw, err := p.ReadChunk(t.Context(), c.d, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(raw, c.raw) {
		t.Fatalf("chunk %s: %d bytes, want %d others", c.d, len(raw), len(c.raw))
	}
}

func TestEveryChunkIsRead(t *testing.T) {
	w := build(t, 300)
	p := w.open(0)
	for _, c := range w.chunks {
		same(t, p, c)
	}
	if _, err := p.ReadChunk(t.Context(), digest.Digest{1}, nil); !errors.Is(err, repo.ErrChunkMissing) {
		t.Errorf("one that no index names: %v", err)
	}
	raw, back, err := p.LendChunk(t.Context(), w.chunks[5].d)
	if err != nil || !bytes.Equal(raw, w.chunks[5].raw) {
		t.Errorf("%d bytes, %v", len(raw), err)
	}
	back()
	r, n, err := p.OpenChunk(t.Context(), w.chunks[6].d)
	if err != nil || n != int64(len(w.chunks[6].raw)) {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if raw, err := io.ReadAll(r); err != nil || !bytes.Equal(raw, w.chunks[6].raw) {
		t.Errorf("%d bytes, %v", len(raw), err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// Who reads here and there waits for one answer each time, and not for that of somebody
// else.
func TestReadsHereAndThereTakeOneRequestEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := build(t, 400)
		w.store.latency = 30 * time.Millisecond
		p := w.open(0)
		same(t, p, w.chunks[0]) // the chunk map comes with it
		w.store.asked()
		start := time.Now()
		var wg sync.WaitGroup
		for reader := range 8 {
			wg.Go(func() {
				for i := range 40 {
					c := w.chunks[(reader*50+i*37)%400]
					if raw, err := p.ReadChunk(t.Context(), c.d, nil); err != nil || !bytes.Equal(raw, c.raw) {
						t.Errorf("chunk %s: %d bytes, %v", c.d, len(raw), err)
					}
				}
			})
		}
		wg.Wait()
		if gets, took := w.store.asked(), time.Since(start); gets != 320 || took != 40*w.store.latency {
			t.Errorf("8 times 40 chunks took %d requests and %v", gets, took)
		}
	})
}

// A reader who announces far enough waits for nothing but the line, and takes few
// requests.
func TestAnnouncedChunksComeTogetherAndInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := build(t, 1000) // 32 MiB in 32 packs
		w.store.latency = 30 * time.Millisecond
		p := w.open(0)
		same(t, p, w.chunks[0])
		w.store.asked()
		start := time.Now()
		p.Prefetch(w.digests()[1:])
		for _, c := range w.chunks[1:] {
			same(t, p, c)
		}
		gets := w.store.asked()
		if took := time.Since(start); took > 300*time.Millisecond {
			t.Errorf("it took %v with %d requests", took, gets)
		}
		if gets > 70 {
			t.Errorf("%d requests for 1,000 chunks in 32 packs", gets)
		}
	})
}

// Chunks that lie far from each other take a request each, and the more at once the
// longer the reader waits.
func TestMoreRequestsAreOnTheirWayWhenTheReaderWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := build(t, 4000) // 128 MiB
		w.store.latency = 30 * time.Millisecond
		p := w.open(0)
		var far []chunk
		for i := 0; i < len(w.chunks); i += 5 {
			far = append(far, w.chunks[i])
		}
		var ds []digest.Digest
		for _, c := range far {
			ds = append(ds, c.d)
		}
		p.Prefetch(ds)
		most := 0
		for _, c := range far {
			same(t, p, c)
			w.store.mu.Lock()
			most = max(most, w.store.most)
			w.store.mu.Unlock()
		}
		if most < 64 || most > 130 {
			t.Errorf("%d requests at once", most)
		}
	})
}

func TestWhatIsFetchedAheadStaysWithinTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := build(t, 400)
		const budget = 1 << 20
		p := w.open(budget)
		same(t, p, w.chunks[0])
		w.store.asked()
		p.Prefetch(w.digests()[1:])
		synctest.Wait()
		if w.store.bytes > budget+1<<20 || w.store.bytes < budget/2 { // gaps are none
			t.Errorf("%d bytes were asked for with a budget of %d", w.store.bytes, budget)
		}
		for _, c := range w.chunks[1:] {
			same(t, p, c)
		}
	})
}

// What was announced and is not what is read must not stop what is.
func TestWrongGuessesMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := build(t, 800)
		p := w.open(1 << 20)
		p.Prefetch(w.digests()[:60]) // more than there is room for
		synctest.Wait()
		p.Prefetch(w.digests()[60:100])
		for _, c := range w.chunks[60:400] { // in the line behind them, and not announced
			same(t, p, c)
		}
		synctest.Wait()
		w.store.asked()
		p.Prefetch(w.digests()[400:430])
		synctest.Wait()
		if gets := w.store.asked(); gets == 0 {
			t.Error("nothing is fetched ahead any more")
		}
		for _, c := range w.chunks[400:420] {
			same(t, p, c)
		}
		if gets := w.store.asked(); gets > 1 {
			t.Errorf("%d requests for what was fetched ahead", gets)
		}
	})
}

func TestConnectionsThatBreakAreTakenUpAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := build(t, 100)
		w.store.breakAt = 50_001
		p := w.open(0)
		p.Prefetch(w.digests()[:70])
		for _, c := range w.chunks {
			same(t, p, c)
		}
	})
}

func TestTroubleIsToldAndNotKept(t *testing.T) {
	w := build(t, 100)
	p := w.open(0)
	trouble := errors.New("no route to host")
	w.store.fail(trouble)
	read := func(want error) {
		t.Helper()
		p.Prefetch(w.digests()[:50])
		for _, c := range w.chunks {
			if _, err := p.ReadChunk(t.Context(), c.d, nil); !errors.Is(err, want) {
				t.Fatalf("%v, want %v", err, want)
			}
		}
	}
	read(trouble) // the chunk map
	w.store.fail(nil)
	read(nil)
	w.store.fail(trouble)
	read(trouble) // the chunks
	w.store.fail(nil)
	read(nil)
}

func TestAReaderMayStopWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := build(t, 100)
		p := w.open(0)
		same(t, p, w.chunks[0])
		w.store.latency = time.Hour
		why := errors.New("enough")
		for _, announced := range []bool{false, true} {
			if announced {
				p.Prefetch(w.digests())
			}
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, why)
			if _, err := p.ReadChunk(ctx, w.chunks[50].d, nil); !errors.Is(err, why) {
				t.Errorf("%v", err)
			}
			cancel()
		}
	})
}

func TestClosingEndsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := build(t, 500)
		w.store.latency = time.Hour
		p := w.open(0)
		var wg sync.WaitGroup
		wg.Go(func() { // the chunk map
			if _, err := p.ReadChunk(t.Context(), w.chunks[1].d, nil); err == nil {
				t.Error("a chunk is read from a closed snapshot")
			}
		})
		p.Prefetch(w.digests())
		synctest.Wait()
		start := time.Now()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if took := time.Since(start); took > 0 {
			t.Errorf("it took %v", took)
		}

		w.store.latency = 0
		p = w.open(0)
		same(t, p, w.chunks[0])
		w.store.latency = time.Hour
		p.Prefetch(w.digests())
		synctest.Wait()
		start = time.Now()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > 0 {
			t.Errorf("it took %v", took)
		}
		p.Prefetch(w.digests())
	})
}

func TestManyReadAtOnce(t *testing.T) {
	w := build(t, 500)
	p := w.open(4 << 20)
	ds := w.digests()
	var wg sync.WaitGroup
	for k := range 8 {
		wg.Go(func() {
			for i := 0; i < len(ds); i++ {
				if i%20 == 0 {
					next := ds[i:min(i+40, len(ds))]
					if k%2 == 1 {
						next = slices.Clone(next)
						slices.Reverse(next)
					}
					p.Prefetch(next)
				}
				raw, back, err := p.LendChunk(t.Context(), ds[i])
				if err != nil || !bytes.Equal(raw, w.chunks[i].raw) {
					t.Errorf("chunk %d: %d bytes, %v", i, len(raw), err)
					return
				}
				clear(raw) // it is ours
				back()
			}
		})
	}
	wg.Wait()
}

func TestRecordsThatCannotBeAreRefused(t *testing.T) {
	w := build(t, 3)
	w.rec.Manifest = []byte(`{}`)
	if _, err := reading.Open(t.Context(), snapshot, w.rec, reading.Options{}); err == nil {
		t.Error("a record without a manifest is opened")
	}
	w = build(t, 3)
	w.rec.Map.Len = -1
	if _, err := w.open(0).ReadChunk(t.Context(), w.chunks[0].d, nil); err == nil {
		t.Error("a map of negative length is read")
	}
	w = build(t, 3)
	w.rec.Files[2].Len = 1 << 60
	if _, err := w.open(0).Blob(config); err == nil {
		t.Error("a blob of an exabyte is read")
	}
	w.rec.Files = w.rec.Files[:2]
	if _, err := w.open(0).Blob(config); err == nil {
		t.Error("a blob without a place is read")
	}
}
