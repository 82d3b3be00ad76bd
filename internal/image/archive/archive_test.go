package archive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/image/archive"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

const (
	chunk = 8 << 10
	disk  = names.Archive("disk.img.fidx")
)

func key(t testing.TB) *chunkcrypt.Key {
	t.Helper()
	k, err := chunkcrypt.New([32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

type source struct{ *bytes.Reader }

// save backs b up and opens the snapshot.
func save(t testing.TB, b []byte, k *chunkcrypt.Key) (*repotest.Memory, *repotest.Snapshot) {
	t.Helper()
	return saveIn(t, b, k, chunk)
}

// saveIn is save with chunks of another size.
func saveIn(t testing.TB, b []byte, k *chunkcrypt.Key, size int) (*repotest.Memory, *repotest.Snapshot) {
	t.Helper()
	m := repotest.New()
	name := names.Snapshot{Group: names.Group{Type: names.VM, ID: "1"}, Time: 1}
	j := backup.Job{Snapshot: name, Sources: []backup.Source{{Name: disk, Image: source{bytes.NewReader(b)}}}}
	j.Options.ChunkSize = size
	if k != nil {
		j.Options.CryptMode, j.Options.Key = manifest.ModeEncrypt, k
	}
	if _, err := backup.Run(t.Context(), m, j); err != nil {
		t.Fatal(err)
	}
	s, err := m.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	m.Reset()
	return m, s
}

func open(t testing.TB, s repo.Snapshot, k *chunkcrypt.Key, o archive.Options) *archive.Image {
	t.Helper()
	img, err := archive.Open(t.Context(), s, disk, k, o)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// sized returns a cache of so many chunks, which is closed before buffers are
// counted.
func sized(chunks int) *archive.Cache {
	return archive.NewCache(int64(chunks) * slotSize)
}

// slotSize is what a chunk takes in memory.
var slotSize = int64(chunk + os.Getpagesize())

func clean(t testing.TB, m *repotest.Memory) {
	t.Helper()
	if n := pagebuf.Outstanding(); n != 0 {
		t.Fatalf("%d buffers were not freed", n)
	}
	if m.InUse() != 0 {
		t.Fatal("the index is still open")
	}
}

// content has a slot of data, a slot of zeros, and so on, with runs.
func content(size int) []byte {
	b := make([]byte, size)
	for i := 0; i < size; i += chunk {
		if (i/chunk)%5 < 3 {
			rand.NewChaCha8([32]byte{byte(i / chunk), byte(i / chunk >> 8)}).Read(b[i:min(i+chunk, size)])
		}
	}
	return b
}

func TestReadsAreWhatWasBackedUp(t *testing.T) {
	for _, k := range []*chunkcrypt.Key{nil, key(t)} {
		want := content(99*chunk + 1234)
		m, s := save(t, want, k)
		cache := sized(3)
		img := open(t, s, k, archive.Options{Cache: cache})
		var wg sync.WaitGroup
		for seed := range uint64(8) {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(seed, 1))
				for range 300 {
					off := rnd.Int64N(int64(len(want)) + 10)
					p := make([]byte, rnd.IntN(3*chunk))
					n, err := img.ReadAt(p, off)
					rest := want[min(off, int64(len(want))):]
					if exp := min(len(p), len(rest)); n != exp || !bytes.Equal(p[:n], rest[:n]) || (n < len(p)) != errors.Is(err, io.EOF) {
						t.Errorf("read %d at %d: %d, %v", len(p), off, n, err)
						return
					}
				}
			})
		}
		wg.Wait()
		if n, loaders := pagebuf.Outstanding(), runtime.GOMAXPROCS(0)+1; n > 3+loaders {
			t.Errorf("%d buffers, want at most 3 chunks and %d loaders", n, loaders)
		}
		if err := img.Close(); err != nil {
			t.Fatal(err)
		}
		cache.Close()
		clean(t, m)
	}
}

func TestExtentsTellZerosAndReadNothing(t *testing.T) {
	want := content(1000*chunk + 5)
	m, s := save(t, want, nil)
	img := open(t, s, nil, archive.Options{})
	for off := int64(0); off < img.Size(); {
		e, err := img.ExtentAt(off)
		if err != nil || e.Offset != off || e.Length <= 0 || e.End() > img.Size() {
			t.Fatalf("%+v, %v", e, err)
		}
		for slot := off / chunk; slot*chunk < e.End(); slot++ {
			if zero := slot%5 >= 3; zero != (e.Kind == image.Zero) {
				t.Fatalf("slot %d is %v", slot, e.Kind)
			}
		}
		off = e.End()
	}
	if e, err := img.ExtentAt(3*chunk + 7); err != nil || e != (image.Extent{Offset: 3*chunk + 7, Length: 2*chunk - 7, Kind: image.Zero}) {
		t.Errorf("in the middle: %+v, %v", e, err)
	}
	for _, off := range []int64{-1, img.Size()} {
		if _, err := img.ExtentAt(off); err == nil {
			t.Errorf("extent at %d", off)
		}
	}
	if _, err := img.ReadAt(make([]byte, chunk), 3*chunk); err != nil {
		t.Error(err)
	}
	if n := m.Calls(repotest.OpRead); n != 0 {
		t.Errorf("%d chunks were fetched", n)
	}
	img.Close()
	clean(t, m)
}

// slow is a snapshot whose chunks take a second.
type slow struct{ *repotest.Snapshot }

func (s slow) ReadChunk(ctx context.Context, d digest.Digest, buf []byte) ([]byte, error) {
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return s.Snapshot.ReadChunk(ctx, d, buf)
}

func TestConcurrentReadsOfOneChunkShareOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s := save(t, content(10*chunk), nil)
		img := open(t, slow{s}, nil, archive.Options{})
		var wg sync.WaitGroup
		start := time.Now()
		for i := range 20 {
			wg.Go(func() {
				if _, err := img.ReadAt(make([]byte, 10), int64(i)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n, took := m.Calls(repotest.OpRead), time.Since(start); n != 1 || took != time.Second {
			t.Errorf("%d fetches in %v", n, took)
		}
		img.Close()
		clean(t, m)
	})
}

func TestCloseEndsReadsAndWaitsForThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s := save(t, content(10*chunk), nil)
		cache := sized(1)
		img := open(t, slow{s}, nil, archive.Options{Cache: cache})
		var wg sync.WaitGroup
		for _, slot := range []int64{0, 1, 2, 5} {
			wg.Go(func() {
				if _, err := img.ReadAt(make([]byte, 10), slot*chunk); !errors.Is(err, fs.ErrClosed) {
					t.Errorf("got %v", err)
				}
			})
		}
		time.Sleep(100 * time.Millisecond)
		start := time.Now()
		if err := img.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("Close took %v", took)
		}
		cache.Close()
		clean(t, m)
		wg.Wait()
	})
}

func TestFailureNamesThePlaceAndIsNotCached(t *testing.T) {
	m, s := save(t, content(10*chunk), nil)
	img := open(t, s, nil, archive.Options{})
	broken := errors.New("broken")
	for round := range 3 {
		m.Fail = func(op string) error { return fmt.Errorf("%s: %w", op, broken) }
		_, err := img.ReadAt(make([]byte, 10), 5*chunk+1)
		if !errors.Is(err, broken) || !strings.Contains(err.Error(), fmt.Sprintf("bytes %d to %d", 5*chunk, 6*chunk)) {
			t.Fatalf("round %d: %v", round, err)
		}
		m.Fail = nil
	}
	if _, err := img.ReadAt(make([]byte, 10), 5*chunk+1); err != nil {
		t.Fatal(err)
	}
	img.Close()
	clean(t, m)
}

func TestDamagedChunkIsNeverReturned(t *testing.T) {
	m, s := save(t, content(3*chunk), nil)
	for _, raw := range m.Chunks {
		raw[len(raw)/2] ^= 1
	}
	img := open(t, s, nil, archive.Options{})
	p := make([]byte, 3*chunk)
	n, err := img.ReadAt(p, 0)
	if _, ok := errors.AsType[*repo.CorruptError](err); !ok || n != 0 || !bytes.Equal(p, make([]byte, len(p))) {
		t.Fatalf("%d, %v", n, err)
	}
	img.Close()
	clean(t, m)
}
