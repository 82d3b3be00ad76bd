package archive_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/image/archive"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

// solid has no zeros and no two equal chunks.
func solid(slots int) []byte {
	b := make([]byte, slots*chunk)
	rand.NewChaCha8([32]byte{9}).Read(b)
	return b
}

// scattered reads slots one byte each, so that no stream is seen in them.
func scattered(t testing.TB, img *archive.Image, slots ...int) {
	t.Helper()
	for _, s := range slots {
		if _, err := img.ReadAt(make([]byte, 1), int64(s)*chunk+int64(s*37%chunk)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWarmReadsDoNotAllocate(t *testing.T) {
	b := content(20*chunk + 100)
	m, s := save(t, b, nil)
	img := open(t, s, nil, archive.Options{Trace: new(archive.Recorder)})
	p := make([]byte, 4096)
	want := func(off int64) {
		if !bytes.Equal(p, b[off:off+4096]) {
			t.Fatal("wrong data")
		}
	}
	if img.TryReadAt(p, 0) {
		t.Fatal("an empty cache answered")
	}
	if _, err := img.ReadAt(p, 0); err != nil {
		t.Fatal(err)
	}
	for _, off := range []int64{0, 4000, 3 * chunk, 4*chunk - 100, 5*chunk - 4096} { // data, and zeros
		n := testing.AllocsPerRun(100, func() {
			if !img.TryReadAt(p, off) {
				t.Fatalf("%d is not warm", off)
			}
			want(off)
			if _, err := img.ReadAt(p, off); err != nil {
				t.Fatal(err)
			}
			want(off)
		})
		if n != 0 {
			t.Errorf("%v allocations at %d", n, off)
		}
	}
	for _, off := range []int64{-1, chunk, chunk - 1, 2 * chunk, img.Size() - 4095, 1 << 62} {
		if img.TryReadAt(p, off) {
			t.Errorf("read at %d answered at once", off)
		}
	}
	if n := m.Calls(repotest.OpRead); n != 1 {
		t.Errorf("%d fetches", n)
	}
	img.Close()
	if img.TryReadAt(p, 0) {
		t.Error("a closed image answered")
	}
	if _, err := img.ReadAt(p, 0); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("read after Close: %v", err)
	}
	if err := img.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	clean(t, m)
}

func TestSnapshotsShareChunksButNotAcrossKeys(t *testing.T) {
	b := solid(6)
	m1, s1 := save(t, b, nil)
	m2, s2 := save(t, b, nil)
	m3, s3 := save(t, b, key(t))
	cache := archive.NewCache(0)
	var imgs []*archive.Image
	for _, img := range []*archive.Image{
		open(t, s1, nil, archive.Options{Cache: cache}),
		open(t, s2, nil, archive.Options{Cache: cache}),
		open(t, s3, key(t), archive.Options{Cache: cache}),
	} {
		imgs = append(imgs, img)
		scattered(t, img, 4, 1, 3)
	}
	if a, b, c := m1.Calls(repotest.OpRead), m2.Calls(repotest.OpRead), m3.Calls(repotest.OpRead); a != 3 || b != 0 || c != 3 {
		t.Errorf("%d, %d and %d fetches", a, b, c)
	}
	imgs[0].Close()
	scattered(t, imgs[1], 1, 4)
	if st := imgs[1].Stats(); st.Hits != 5 || st.Misses != 0 || st.Fetched != 0 {
		t.Errorf("%+v", st)
	}
	if st := cache.Stats(); st.Chunks != 6 || st.Used != 6*slotSize {
		t.Errorf("%+v", st)
	}
	imgs[1].Close()
	imgs[2].Close()
	cache.Close()
	clean(t, m1)
	clean(t, m3)
}

func TestFailureOfAnotherImageIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := solid(4)
		m1, s1 := save(t, b, nil)
		_, s2 := save(t, b, nil)
		cache := archive.NewCache(0)
		one := open(t, slow{s1}, nil, archive.Options{Cache: cache})
		two := open(t, slow{s2}, nil, archive.Options{Cache: cache})
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := one.ReadAt(make([]byte, 1), 0); !errors.Is(err, fs.ErrClosed) {
				t.Errorf("first image: %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if _, err := two.ReadAt(make([]byte, 1), 0); err != nil {
				t.Errorf("second image: %v", err)
			}
		})
		synctest.Wait()
		one.Close()
		wg.Wait()
		two.Close()
		cache.Close()
		clean(t, m1)
	})
}

func TestReadsEndWithTheContextOfOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s := save(t, solid(4), nil)
		cache := sized(1)
		ctx, cancel := context.WithCancelCause(t.Context())
		img, err := archive.Open(ctx, slow{s}, disk, nil, archive.Options{Cache: cache})
		if err != nil {
			t.Fatal(err)
		}
		over := errors.New("over")
		var wg sync.WaitGroup
		for slot := range int64(4) { // one is fetched, the others wait for room
			wg.Go(func() {
				if _, err := img.ReadAt(make([]byte, 1), slot*chunk+slot); !errors.Is(err, over) {
					t.Errorf("slot %d: %v", slot, err)
				}
			})
		}
		synctest.Wait()
		start := time.Now()
		cancel(over)
		wg.Wait()
		if took := time.Since(start); took != 0 {
			t.Errorf("it took %v", took)
		}
		img.Close()
		cache.Close()
		clean(t, m)
	})
}

func TestCopyOfTheImageLeavesWhatIsInUse(t *testing.T) {
	m, s := save(t, solid(200), nil)
	cache := sized(16)
	img := open(t, s, nil, archive.Options{Cache: cache})
	hot := []int{150, 170, 155, 190, 165, 180}
	for range 3 {
		scattered(t, img, hot...)
	}
	p := make([]byte, chunk/4)
	for off := int64(0); off < 140*chunk; off += int64(len(p)) {
		if _, err := img.ReadAt(p, off); err != nil {
			t.Fatal(err)
		}
	}
	before := img.Stats()
	scattered(t, img, hot...)
	if after := img.Stats(); after.Hits-before.Hits != int64(len(hot)) {
		t.Errorf("%d of %d chunks are left", after.Hits-before.Hits, len(hot))
	}
	if st := cache.Stats(); st.Used > st.Limit {
		t.Errorf("%+v", st)
	}
	img.Close()
	cache.Close()
	clean(t, m)
}

func TestCacheHoldsWhatFitsWhateverTheOrder(t *testing.T) {
	m, s := save(t, solid(40), nil)
	cache := sized(8)
	img := open(t, s, nil, archive.Options{Cache: cache})
	scattered(t, img, 30, 2, 17, 9, 25, 38, 12, 5)
	m.Reset()
	for range 5 {
		scattered(t, img, 12, 30, 9, 5, 2, 38, 25, 17)
	}
	if n := m.Calls(repotest.OpRead); n != 0 {
		t.Errorf("%d fetches of what was there", n)
	}
	scattered(t, img, 20, 33, 8, 14, 1) // once asked for, they go again
	if st := cache.Stats(); st.Used > st.Limit || st.Chunks != 8 {
		t.Errorf("%+v", st)
	}
	img.Close()
	cache.Close()
	clean(t, m)
}

// Several images of two chunk sizes, with and without a key, on a cache of a few chunks; copiers,
// random reads, hints, prefetches, failing fetches.
func TestAnythingAtOnceReadsWhatWasBackedUp(t *testing.T) {
	for seed := range uint64(4) {
		cache := archive.NewCache(int64(1+3*seed) * slotSize)
		broken := errors.New("broken")
		var mems []*repotest.Memory
		var imgs []*archive.Image
		var wants [][]byte
		for k := range 3 {
			want := content((40+k)*chunk + 77*k)
			var mem *repotest.Memory
			var snap *repotest.Snapshot
			if k == 2 {
				mem, snap = save(t, want, key(t))
				imgs = append(imgs, open(t, snap, key(t), archive.Options{Cache: cache}))
			} else {
				mem, snap = saveIn(t, want, nil, (1+k)*chunk)
				imgs = append(imgs, open(t, snap, nil, archive.Options{Cache: cache}))
			}
			mems, wants = append(mems, mem), append(wants, want)
		}
		var mu sync.Mutex
		dice := rand.New(rand.NewPCG(seed, 3))
		mems[1].Fail = func(string) error {
			mu.Lock()
			defer mu.Unlock()
			if dice.IntN(5) == 0 {
				return broken
			}
			return nil
		}
		var wg sync.WaitGroup
		for w := range uint64(9) {
			k := int(w % 3)
			img, want := imgs[k], wants[k]
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(seed, w))
				at := rnd.Int64N(img.Size())
				for range 400 {
					p := make([]byte, 1+rnd.IntN(chunk))
					switch rnd.IntN(8) {
					case 0:
						at = rnd.Int64N(img.Size())
					case 1:
						img.WillNeed(rnd.Int64N(img.Size()), int64(rnd.IntN(8*chunk)))
					case 2:
						p = make([]byte, rnd.IntN(6*chunk))
					case 3:
						if rnd.IntN(20) == 0 {
							tr := &archive.Trace{Archive: disk, Size: img.Size(), ChunkSize: int64(img.ChunkSize()), Slots: rnd.Perm(40)}
							if err := img.Prefetch(t.Context(), tr); err != nil {
								t.Error(err)
							}
						}
					}
					at %= img.Size()
					p = p[:min(int64(len(p)), img.Size()-at)]
					if !img.TryReadAt(p, at) {
						n, err := img.ReadAt(p, at)
						if k == 1 && errors.Is(err, broken) {
							p = p[:n]
						} else if err != nil {
							t.Errorf("image %d at %d: %v", k, at, err)
							return
						}
					}
					if !bytes.Equal(p, want[at:at+int64(len(p))]) {
						t.Errorf("image %d at %d: wrong data", k, at)
						return
					}
					at += int64(len(p))
				}
			})
		}
		wg.Wait()
		for _, img := range imgs {
			if err := img.Close(); err != nil {
				t.Error(err)
			}
		}
		if st := cache.Stats(); st.Used > max(st.Limit, slotSize+chunk) || st.Ahead > st.Limit/2 {
			t.Errorf("%+v", st)
		}
		cache.Close()
		if st := cache.Stats(); st.Used != 0 || st.Ahead != 0 || st.Chunks != 0 {
			t.Errorf("after Close: %+v", st)
		}
		for _, mem := range mems {
			clean(t, mem)
		}
	}
}

func TestImageOfAClosedCacheFailsAndLeaksNothing(t *testing.T) {
	m, s := save(t, solid(8), nil)
	cache := archive.NewCache(0)
	img := open(t, s, nil, archive.Options{Cache: cache})
	scattered(t, img, 1, 2)
	cache.Close()
	if _, err := img.ReadAt(make([]byte, 1), chunk); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("err = %v", err)
	}
	img.WillNeed(0, 8*chunk)
	if err := img.Prefetch(t.Context(), &archive.Trace{Archive: disk, Size: img.Size(), ChunkSize: chunk, Slots: []int{1}}); err != nil {
		t.Error(err)
	}
	img.Close()
	clean(t, m)
}
