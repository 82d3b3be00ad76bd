package restore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
	"github.com/holdfast-backup/holdfast/internal/restore"
)

func TestEveryShapeComesBack(t *testing.T) {
	for _, k := range []*chunkcrypt.Key{nil, key(t, 7)} {
		for i, size := range []int{1, chunk - 1, chunk, chunk + 1, 20*chunk + 4097, 33 * chunk} {
			want := content(uint64(i), size)
			m := repotest.New()
			s := save(t, m, 0, want, k)
			for _, kind := range []string{"fresh", "ordered", "existing", "existing, blind"} {
				for _, workers := range []int{1, 4} {
					t.Run(fmt.Sprintf("key=%v/size=%d/%s/workers=%d", k != nil, size, kind, workers), func(t *testing.T) {
						to := newTarget(make([]byte, size), !strings.HasPrefix(kind, "existing"))
						to.ordered = kind == "ordered"
						var dst image.Target = to
						if !to.fresh {
							rand.NewChaCha8([32]byte{1}).Read(to.b)
						}
						if kind == "existing" {
							dst = readable{to}
						}
						r, err := restore.Image(t.Context(), s, disk, k, dst, restore.Options{Workers: workers})
						if err != nil {
							t.Fatal(err)
						}
						wantSame(t, to.b, want)
						if !to.finished || r.Size != int64(size) || r.Stats.Done() != int64(size) {
							t.Fatalf("finished %v, result %+v", to.finished, r)
						}
						clean(t, m)
					})
				}
			}
		}
	}
}

func TestZerosAreNeverWrittenToAFreshTarget(t *testing.T) {
	b := make([]byte, 10*chunk)
	fill(rng(1), b[3*chunk:3*chunk+4096])
	fill(rng(1), b[3*chunk+4096+64<<10:3*chunk+8192+64<<10])
	m := repotest.New()
	s := save(t, m, 0, b, nil)
	to := newTarget(make([]byte, len(b)), true)
	r, err := restore.Image(t.Context(), s, disk, nil, to, restore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, to.b, b)
	if to.written != 8192 || r.Stats.Written != 8192 || r.Stats.Zero.Chunks != 9 || r.Stats.Fetched.Chunks != 1 {
		t.Fatalf("wrote %d, %+v", to.written, r.Stats)
	}
}

func TestInPlaceTouchesOnlyTheBlocksThatDiffer(t *testing.T) {
	for _, k := range []*chunkcrypt.Key{nil, key(t, 1)} {
		day0 := make([]byte, 30*chunk+1000)
		fill(rng(1), day0[:20*chunk])
		day1 := bytes.Clone(day0)
		day1[5*chunk+10_000]++
		day1[5*chunk+200_000]++
		clear(day1[8*chunk : 10*chunk])
		fill(rng(2), day1[25*chunk:26*chunk])
		day1[30*chunk+999] = 1
		m := repotest.New()
		s0, s1 := save(t, m, 0, day0, k), save(t, m, 1, day1, k)

		for _, tc := range []struct {
			name  string
			from  *repotest.Snapshot
			now   []byte
			to    *repotest.Snapshot
			want  []byte
			same  int64 // slots that need nothing
			fetch int64
			bytes int64 // written
		}{
			{"forward", s0, day0, s1, day1, 0, 3, 2*4096 + chunk + 1000},
			{"back", s1, day1, s0, day0, 0, 3, 2*4096 + 2*chunk},
		} {
			for _, base := range []repo.Snapshot{nil, tc.from} {
				t.Run(fmt.Sprintf("key=%v/%s/base=%v", k != nil, tc.name, base != nil), func(t *testing.T) {
					to := newTarget(bytes.Clone(tc.now), false)
					m.Reset()
					r, err := restore.Image(t.Context(), tc.to, disk, k, readable{to}, restore.Options{Base: base})
					if err != nil {
						t.Fatal(err)
					}
					wantSame(t, to.b, tc.want)
					if to.written != tc.bytes {
						t.Errorf("wrote %d bytes, want %d", to.written, tc.bytes)
					}
					if n := int64(m.Calls(repotest.OpRead)); n != r.Stats.Fetched.Chunks || n > 4 {
						t.Errorf("read %d chunks, %+v", n, r.Stats)
					}
					clean(t, m)
				})
			}
		}
	}
}

func TestBaseIsIgnoredForAFreshTarget(t *testing.T) {
	b := content(1, 5*chunk)
	m := repotest.New()
	s := save(t, m, 0, b, nil)
	to := newTarget(make([]byte, len(b)), true)
	if _, err := restore.Image(t.Context(), s, disk, nil, to, restore.Options{Base: s}); err != nil {
		t.Fatal(err)
	}
	wantSame(t, to.b, b)
}

// damage is one way to hurt a store.
type damage struct {
	name string
	do   func(m *repotest.Memory, d, other digest.Digest)
}

var damages = []damage{
	{"missing", func(m *repotest.Memory, d, _ digest.Digest) { delete(m.Chunks, d) }},
	{"empty", func(m *repotest.Memory, d, _ digest.Digest) { m.Chunks[d] = nil }},
	{"cut", func(m *repotest.Memory, d, _ digest.Digest) { m.Chunks[d] = m.Chunks[d][:len(m.Chunks[d])-1] }},
	{"flipped", func(m *repotest.Memory, d, _ digest.Digest) { m.Chunks[d][len(m.Chunks[d])/2] ^= 4 }},
	{"zeroed", func(m *repotest.Memory, d, _ digest.Digest) { clear(m.Chunks[d]) }},
	{"swapped", func(m *repotest.Memory, d, other digest.Digest) { m.Chunks[d] = m.Chunks[other] }},
	{"longer", func(m *repotest.Memory, d, _ digest.Digest) { m.Chunks[d] = append(m.Chunks[d], 0) }},
	{"in clear", func(m *repotest.Memory, d, _ digest.Digest) { m.Chunks[d] = encode(nil, make([]byte, chunk)) }},
	{"with another key", func(m *repotest.Memory, d, _ digest.Digest) {
		k, _ := chunkcrypt.New([32]byte{99})
		m.Chunks[d] = encode(k, make([]byte, chunk))
	}},
}

func encode(k *chunkcrypt.Key, plain []byte) []byte {
	e, err := blob.NewEncoder(k, bytes.NewReader(make([]byte, 100)), true)
	if err != nil {
		panic(err)
	}
	defer e.Close()
	raw, err := e.Append(nil, plain)
	if err != nil {
		panic(err)
	}
	return raw
}

func TestEveryDamagedChunkIsFoundAndNamed(t *testing.T) {
	for _, k := range []*chunkcrypt.Key{nil, key(t, 3)} {
		want := make([]byte, 8*chunk)
		fill(rng(1), want)
		for _, dm := range damages {
			for _, slot := range []int{0, 3, 7} {
				t.Run(fmt.Sprintf("key=%v/%s/%d", k != nil, dm.name, slot), func(t *testing.T) {
					m := repotest.New()
					s := save(t, m, 0, want, k)
					d, other := digestAt(t, s, slot), digestAt(t, s, (slot+1)%8)
					dm.do(m, d, other)

					to := newTarget(make([]byte, len(want)), true)
					_, err := restore.Image(t.Context(), s, disk, k, to, restore.Options{})
					ce, ok := errors.AsType[*restore.ChunkError](err)
					if !ok || ce.Offset != int64(slot)*chunk || ce.Length != chunk || ce.Digest != d || ce.Archive != disk {
						t.Fatalf("got %v", err)
					}
					if errors.Is(err, repo.ErrChunkMissing) != (dm.name == "missing") {
						t.Errorf("missing and corrupt are mixed up: %v", err)
					}
					if to.finished {
						t.Error("the target was finished")
					}
					clean(t, m)
					wantHole(t, m, s, k, want, slot)
				})
			}
		}
	}
}

// wantHole restores with holes allowed, in every way.
func wantHole(t *testing.T, m *repotest.Memory, s *repotest.Snapshot, k *chunkcrypt.Key, want []byte, slot int) {
	t.Helper()
	holed := bytes.Clone(want)
	clear(holed[slot*chunk : (slot+1)*chunk])
	for _, kind := range []string{"fresh", "ordered", "existing", "existing, blind"} {
		to := newTarget(make([]byte, len(want)), !strings.HasPrefix(kind, "existing"))
		to.ordered = kind == "ordered"
		var dst image.Target = to
		if !to.fresh {
			fill(rng(9), to.b)
		}
		if kind == "existing" {
			dst = readable{to}
		}
		r, err := restore.Image(t.Context(), s, disk, k, dst, restore.Options{AllowHoles: true})
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		wantSame(t, to.b, holed)
		if !slices.Equal(r.Holes.Ranges, []image.Range{{Offset: int64(slot) * chunk, Length: chunk}}) || r.Stats.Holes.Chunks != 1 || r.Holes.First == nil {
			t.Fatalf("%s: holes %+v", kind, r.Holes)
		}
		clean(t, m)
	}
}

func digestAt(t *testing.T, s *repotest.Snapshot, slot int) digest.Digest {
	t.Helper()
	x, c, err := s.OpenFixed(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	d, err := x.Digest(slot)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestHolesThatTouchAreOneRange(t *testing.T) {
	want := make([]byte, 10*chunk)
	fill(rng(1), want)
	m := repotest.New()
	s := save(t, m, 0, want, nil)
	for _, slot := range []int{1, 2, 3, 7, 9} {
		delete(m.Chunks, digestAt(t, s, slot))
	}
	r, err := restore.Image(t.Context(), s, disk, nil, newTarget(make([]byte, len(want)), true), restore.Options{AllowHoles: true, Workers: 3})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(r.Holes.Ranges, []image.Range{{Offset: chunk, Length: 3 * chunk}, {Offset: 7 * chunk, Length: chunk}, {Offset: 9 * chunk, Length: chunk}}) {
		t.Fatalf("%+v", r.Holes)
	}
}

func TestWrongOrMissingKeysAreRefusedBeforeAnyWork(t *testing.T) {
	k := key(t, 1)
	m := repotest.New()
	s := save(t, m, 0, content(1, 3*chunk), k)
	for _, tc := range []struct {
		key  *chunkcrypt.Key
		want error
	}{{nil, blob.ErrNoKey}, {key(t, 2), manifest.ErrWrongKey}} {
		m.Reset()
		to := newTarget(make([]byte, 3*chunk), true)
		if _, err := restore.Image(t.Context(), s, disk, tc.key, to, restore.Options{AllowHoles: true}); !errors.Is(err, tc.want) {
			t.Errorf("image: %v, want %v", err, tc.want)
		}
		if _, err := restore.Blob(s, "vm.conf.blob", tc.key); !errors.Is(err, tc.want) {
			t.Errorf("blob: %v, want %v", err, tc.want)
		}
		if m.Calls(repotest.OpRead) != 0 || to.finished {
			t.Error("chunks were read")
		}
		clean(t, m)
	}
	if b, err := restore.Blob(s, "vm.conf.blob", k); err != nil || string(b) != "cores: 2\n" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestWhatIsNotThereIsNotFound(t *testing.T) {
	m := repotest.New()
	s := save(t, m, 0, content(1, chunk), nil)
	to := newTarget(make([]byte, chunk), true)
	if _, err := restore.Image(t.Context(), s, "other.img.fidx", nil, to, restore.Options{}); !errors.Is(err, repo.ErrNotFound) {
		t.Error(err)
	}
	if _, err := restore.Image(t.Context(), s, "vm.conf.blob", nil, to, restore.Options{}); err == nil {
		t.Error("a blob was restored as an image")
	}
	if _, err := restore.Blob(s, disk, nil); err == nil {
		t.Error("an image was restored as a blob")
	}
}

func TestTargetThatIsTooSmallIsRefused(t *testing.T) {
	m := repotest.New()
	s := save(t, m, 0, content(1, 2*chunk), nil)
	to := readable{newTarget(make([]byte, chunk), false)}
	if _, err := restore.Image(t.Context(), s, disk, nil, to, restore.Options{}); err == nil || !strings.Contains(err.Error(), "only 262144") {
		t.Fatal(err)
	}
}

var errInjected = errors.New("injected")

// Every operation fails once or is where the context ends, each in a run of
// its own; synctest finds goroutines that stay behind.
func TestEveryFailureAndCancellationEndsCleanly(t *testing.T) {
	day0, day1 := content(1, 12*chunk+5), content(2, 12*chunk+5)
	for _, kind := range []string{"fresh", "ordered", "existing"} {
		for _, op := range []string{repotest.OpOpen, repotest.OpRead, "write", "zero", "read target", "finish"} {
			for _, cancelled := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/cancelled=%v", kind, op, cancelled), func(t *testing.T) {
					for n := int64(1); ; n++ {
						reached := false
						synctest.Test(t, func(t *testing.T) {
							reached = breakOnce(t, kind, op, n, cancelled, day0, day1)
						})
						if !reached {
							return
						}
					}
				})
			}
		}
	}
}

func breakOnce(t *testing.T, kind, op string, n int64, cancelled bool, day0, day1 []byte) (reached bool) {
	m := repotest.New()
	s := save(t, m, 0, day1, nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var left atomic.Int64
	left.Store(n)
	fail := func(o string) error {
		if o != op || left.Add(-1) != 0 {
			return nil
		}
		if cancelled {
			cancel(errInjected)
			return nil
		}
		return fmt.Errorf("%s: %w", op, errInjected)
	}
	m.Fail = fail
	to := newTarget(bytes.Clone(day0), kind == "existing")
	to.fresh = kind != "existing"
	if to.fresh {
		clear(to.b)
	}
	to.ordered = kind == "ordered"
	to.fail = fail
	var dst image.Target = to
	if kind == "existing" {
		dst = readable{to}
	}
	_, err := restore.Image(ctx, s, disk, nil, dst, restore.Options{Workers: 3})
	if left.Load() > 0 {
		if err != nil {
			t.Fatal(err)
		}
		wantSame(t, to.b, day1)
		return false
	}
	if err == nil && cancelled { // too late to matter
		wantSame(t, to.b, day1)
	} else if !errors.Is(err, errInjected) {
		t.Fatalf("%s %d: got %v", op, n, err)
	}
	clean(t, m)
	return true
}

// slow is a snapshot whose chunks come too late.
type slow struct {
	*repotest.Snapshot
	asked func()
}

func (s slow) ReadChunk(ctx context.Context, _ digest.Digest, _ []byte) ([]byte, error) {
	s.asked()
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

func TestNoChunkIsBlamedForAnInterruption(t *testing.T) {
	m := repotest.New()
	s := save(t, m, 0, content(1, 4*chunk), nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	late := slow{s, func() { cancel(errInjected) }}
	_, err := restore.Image(ctx, late, disk, nil, newTarget(make([]byte, 4*chunk), false), restore.Options{})
	if _, blamed := errors.AsType[*restore.ChunkError](err); blamed || !errors.Is(err, errInjected) {
		t.Errorf("%v", err)
	}
}

// hinted is a snapshot that takes hints.
type hinted struct {
	*repotest.Snapshot
	mu   sync.Mutex
	told map[digest.Digest]int
}

func (h *hinted) Prefetch(ds []digest.Digest) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range ds {
		h.told[d]++
	}
}

// ReadChunk takes time, as a disk does.
func (h *hinted) ReadChunk(ctx context.Context, d digest.Digest, buf []byte) ([]byte, error) {
	time.Sleep(10 * time.Millisecond)
	return h.Snapshot.ReadChunk(ctx, d, buf)
}

func TestPrefetcherIsToldEachChunkOnceAndNoZeros(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := make([]byte, 300*chunk)
		for i := range 300 {
			if i%3 > 0 {
				fill(rng(uint64(i)), b[i*chunk:i*chunk+10])
			}
		}
		m := repotest.New()
		h := &hinted{Snapshot: save(t, m, 0, b, nil), told: map[digest.Digest]int{}}
		if _, err := restore.Image(t.Context(), h, disk, nil, newTarget(make([]byte, len(b)), true), restore.Options{Workers: 2}); err != nil {
			t.Fatal(err)
		}
		if n := len(h.told); n < 190 || n > 200 {
			t.Errorf("told %d of 200 chunks", n)
		}
		for d, n := range h.told {
			if n != 1 {
				t.Errorf("told %d times of %s", n, d)
			}
		}
		if h.told[digest.Of(make([]byte, chunk))] != 0 {
			t.Error("told of zeros")
		}
	})
}

func TestFetchRateIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := make([]byte, 40*chunk)
		fill(rng(1), b)
		m := repotest.New()
		s := save(t, m, 0, b, nil)
		var encoded int64
		for _, raw := range m.Chunks {
			encoded += int64(len(raw))
		}
		start := time.Now()
		if _, err := restore.Image(t.Context(), s, disk, nil, newTarget(make([]byte, len(b)), true), restore.Options{Rate: encoded / 10}); err != nil {
			t.Fatal(err)
		}
		if s := time.Since(start).Seconds(); s < 9 || s > 10.5 {
			t.Errorf("took %.1f s, want 10", s)
		}
	})
}
