package archive_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/image/archive"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

// copyAll reads [from, to) in order, in pieces of size.
func copyAll(t testing.TB, img *archive.Image, b []byte, from, to, size int) {
	t.Helper()
	p := make([]byte, size)
	for off := from; off < to; off += size {
		if !img.TryReadAt(p, int64(off)) {
			if _, err := img.ReadAt(p, int64(off)); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(p, b[off:off+size]) {
			t.Fatalf("wrong data at %d", off)
		}
	}
}

// A chunk takes a second: without read-ahead a copy takes a second for each.
func TestSequentialReadersNeedNotWaitForEachChunk(t *testing.T) {
	for _, size := range []int{512, 4096, chunk, 5 * chunk} {
		synctest.Test(t, func(t *testing.T) {
			b := content(200 * chunk) // 120 of data
			m, s := save(t, b, nil)
			img := open(t, slow{s}, nil, archive.Options{Loaders: 5})
			start := time.Now()
			copyAll(t, img, b, 0, len(b), size)
			took := time.Since(start)
			st := img.Stats()
			if took > 40*time.Second { // 4 in the background, and the reader itself
				t.Errorf("reads of %d: %v for 120 chunks, %+v", size, took, st)
			}
			if n := m.Calls(repotest.OpRead); n != 120 || st.Fetched != 120 || st.AheadWasted != 0 || st.AheadUsed != st.Ahead {
				t.Errorf("reads of %d: %d fetches, %+v", size, n, st)
			}
			if st.Bytes != int64(len(b)) || st.Errors != 0 {
				t.Errorf("%+v", st)
			}
			img.Close()
			clean(t, m)
		})
	}
}

func TestEightSequentialReadersAreServedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := solid(400)
		m, s := save(t, b, nil)
		img := open(t, slow{s}, nil, archive.Options{Loaders: 9})
		start := time.Now()
		var wg sync.WaitGroup
		for k := range 8 {
			wg.Go(func() { copyAll(t, img, b, 50*k*chunk, (50*k+50)*chunk, 2048) })
		}
		wg.Wait()
		if took := time.Since(start); took > 58*time.Second { // 45 with all nine busy
			t.Errorf("%v for 400 chunks, %+v", took, img.Stats())
		}
		if st := img.Stats(); st.Fetched > 405 {
			t.Errorf("%+v", st)
		}
		img.Close()
		clean(t, m)
	})
}

func TestRandomReadsFetchNothingAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s := save(t, solid(300), nil)
		img := open(t, s, nil, archive.Options{})
		rnd := rand.New(rand.NewPCG(1, 2))
		p := make([]byte, 512)
		for range 3000 {
			if _, err := img.ReadAt(p, rnd.Int64N(300*chunk/512)*512); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if st := img.Stats(); st.Ahead != 0 {
			t.Errorf("%+v", st)
		}
		img.Close()
		clean(t, m)
	})
}

// A reader stops in the middle: not more than half of the cache is fetched for
// it, and none of what others use goes.
func TestReadAheadIsBoundedAndDisplacesNothingInUse(t *testing.T) {
	for _, chunks := range []int{1, 2, 3, 8, 20} {
		synctest.Test(t, func(t *testing.T) {
			b := solid(100)
			m, s := save(t, b, nil)
			cache := sized(chunks)
			img := open(t, slow{s}, nil, archive.Options{Cache: cache})
			for at := range 40 {
				copyAll(t, img, b, at*chunk, (at+1)*chunk, 1024)
				if st := cache.Stats(); st.Ahead > st.Limit/2 || st.Used > st.Limit {
					t.Fatalf("cache of %d chunks: %+v", chunks, st)
				}
			}
			synctest.Wait()
			time.Sleep(time.Minute)
			if st := cache.Stats(); st.Ahead > st.Limit/2 || st.Used > st.Limit {
				t.Errorf("cache of %d chunks: %+v", chunks, st)
			}
			// In a cache of a few chunks one may go before its reader comes.
			if st := img.Stats(); st.AheadWasted > 8 || st.Fetched > 40+int64(chunks)+st.AheadWasted {
				t.Errorf("cache of %d chunks: %+v", chunks, st)
			}
			m.Reset()
			copyAll(t, img, b, 39*chunk, 40*chunk, 1024)
			if m.Calls(repotest.OpRead) != 0 {
				t.Errorf("cache of %d chunks: what was read last is gone", chunks)
			}
			img.Close()
			cache.Close()
			clean(t, m)
		})
	}
}

func TestReadAheadEndsWithTheImage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := solid(50)
		m, s := save(t, b, nil)
		img := open(t, slow{s}, nil, archive.Options{Loaders: 4})
		copyAll(t, img, b, 0, 10*chunk, 1024)
		time.Sleep(time.Second / 2)
		start := time.Now()
		img.Close()
		if took := time.Since(start); took != 0 {
			t.Errorf("Close took %v", took)
		}
		clean(t, m)
	})
}

func TestDamageAheadOfAReaderIsReportedWhereItIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := solid(30)
		m, s := save(t, b, nil)
		bad := digest.Of(b[20*chunk : 21*chunk])
		m.Chunks[bad][len(m.Chunks[bad])/2] ^= 1
		img := open(t, s, nil, archive.Options{})
		copyAll(t, img, b, 0, 20*chunk, 1024)
		synctest.Wait()
		if st := img.Stats(); st.Failed != 1 || st.Errors != 0 || st.Fetched < 20 {
			t.Errorf("%+v", st)
		}
		for range 2 {
			if _, err := img.ReadAt(make([]byte, 1), 20*chunk); err == nil {
				t.Error("damage was read")
			}
		}
		copyAll(t, img, b, 21*chunk, 30*chunk, 1024)
		if st := img.Stats(); st.Failed != 3 || st.Errors != 2 {
			t.Errorf("%+v", st)
		}
		img.Close()
		clean(t, m)
	})
}

// hinted is a snapshot that takes hints.
type hinted struct {
	repo.Snapshot
	mu   sync.Mutex
	told []digest.Digest
}

func (h *hinted) Prefetch(ds []digest.Digest) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.told = append(h.told, ds...)
}

func TestAnnouncedRangeIsFetchedWithoutWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := content(20 * chunk)
		m, s := save(t, b, nil)
		h := &hinted{Snapshot: slow{s}}
		img := open(t, h, nil, archive.Options{})
		start := time.Now()
		img.WillNeed(chunk+5, 5*chunk) // slots 1 to 6, of which 3 and 4 are zero
		if took := time.Since(start); took != 0 {
			t.Errorf("it took %v", took)
		}
		if len(h.told) != 4 || h.told[0] != digest.Of(b[chunk:2*chunk]) {
			t.Errorf("%d hints", len(h.told))
		}
		time.Sleep(time.Minute)
		copyAll(t, img, b, chunk, 7*chunk, chunk)
		if st := img.Stats(); st.Ahead != 4 || st.AheadUsed != 4 || st.Misses != 0 || st.Shared != 0 {
			t.Errorf("%+v", st)
		}
		img.WillNeed(-1, 10) // nothing of it is there
		img.WillNeed(0, -1)
		img.WillNeed(img.Size(), 1)
		img.WillNeed(img.Size()-1, 1<<62)
		img.Close()
		img.WillNeed(0, 10)
		clean(t, m)
	})
}

func TestWhoWaitsGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := solid(60)
		m, s := save(t, b, nil)
		img := open(t, slow{s}, nil, archive.Options{Loaders: 2})
		tr := &archive.Trace{Archive: disk, Size: img.Size(), ChunkSize: chunk}
		for slot := range 40 {
			tr.Slots = append(tr.Slots, slot)
		}
		ctx, cancel := context.WithCancel(t.Context())
		if err := img.Prefetch(ctx, tr); err != nil {
			t.Fatal(err)
		}
		for k := range 10 {
			time.Sleep(time.Second / 3)
			start := time.Now()
			scattered(t, img, 40+2*k)
			if took := time.Since(start); took > time.Second {
				t.Errorf("a read took %v", took)
			}
		}
		cancel() // what is on its way comes still
		time.Sleep(2 * time.Second)
		n := img.Stats().Ahead
		time.Sleep(time.Minute)
		if st := img.Stats(); st.Ahead != n || n < 5 || n > 20 {
			t.Errorf("%d, then %+v", n, st)
		}
		img.Close()
		clean(t, m)
	})
}

// An index may give a slot a chunk of another length: its reads fail, and those
// of the chunk's rightful slot do not.
func TestChunkInASlotOfAnotherLengthIsRefused(t *testing.T) {
	b := solid(2)
	m, _ := save(t, b, nil)
	name := names.Snapshot{Group: names.Group{Type: names.VM, ID: "2"}, Time: 1}
	ses, err := m.Begin(t.Context(), repo.Begin{Snapshot: name})
	if err != nil {
		t.Fatal(err)
	}
	w, err := ses.CreateFixed(disk, 2*chunk+100, chunk)
	if err != nil {
		t.Fatal(err)
	}
	for slot, from := range []int{0, 1, 0} {
		if err := w.Set(slot, digest.Of(b[from*chunk:][:chunk])); err != nil {
			t.Fatal(err)
		}
	}
	sum, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	mf := manifest.New(name)
	if err := mf.Add(manifest.File{Filename: string(disk), CryptMode: manifest.ModeNone, Size: 2*chunk + 100, Csum: sum}); err != nil {
		t.Fatal(err)
	}
	if err := ses.Finish(t.Context(), mf); err != nil {
		t.Fatal(err)
	}
	s, err := m.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	var none *chunkcrypt.Key
	img := open(t, s, none, archive.Options{})
	for range 2 {
		copyAll(t, img, b, 0, 2*chunk, chunk)
		if n, err := img.ReadAt(make([]byte, 50), 2*chunk+10); err == nil || n != 0 {
			t.Errorf("%d, %v", n, err)
		}
	}
	img.Close()
	clean(t, m)
}

// distant opens an image of so many chunks, none of zeros, in a snapshot that is far away.
func distant(t *testing.T, chunks int, o archive.Options) ([]byte, *repotest.Memory, *repotest.Distant, *archive.Image) {
	t.Helper()
	b := solid(chunks)
	m, s := save(t, b, nil)
	d := &repotest.Distant{Snapshot: slow{s}, Chunks: 100, Bytes: 1 << 30}
	return b, m, d, open(t, d, nil, o)
}

func TestADistantSnapshotHearsOfAllThatASequentialReaderWillNeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, m, d, img := distant(t, 400, archive.Options{})
		copyAll(t, img, b, 0, 400*chunk, chunk/2)
		if read, surprise, most, waiting := d.Heard(); read != 400 || surprise > 16 || most < 50 || most > 110 || waiting > 0 {
			t.Errorf("%d chunks were read, %d without notice; up to %d were announced, %d in vain", read, surprise, most, waiting)
		}
		img.Close()
		clean(t, m)
	})
}

// Who reads here and there has nothing announced.
func TestADistantSnapshotIsNotAskedForWhatNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, m, d, img := distant(t, 400, archive.Options{})
		for i := range 200 {
			slot := i * 37 % 400
			copyAll(t, img, b, slot*chunk+5, slot*chunk+50, 45)
		}
		if _, _, most, _ := d.Heard(); most > 0 {
			t.Errorf("%d chunks were announced", most)
		}
		img.Close()
		clean(t, m)
	})
}

func TestADistantSnapshotHearsOfWhatManyReadersWaitFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, m, d, img := distant(t, 40, archive.Options{Loaders: 2})
		var all sync.WaitGroup
		for i := range 16 {
			all.Go(func() {
				slot := i * 37 % 40
				copyAll(t, img, b, slot*chunk+5, slot*chunk+50, 45)
			})
		}
		all.Wait()
		if read, surprise, _, waiting := d.Heard(); read != 16 || surprise > 2 || waiting > 0 {
			t.Errorf("%d chunks were read, %d without notice, and %d were announced in vain", read, surprise, waiting)
		}
		img.Close()
		clean(t, m)
	})
}
