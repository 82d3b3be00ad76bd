package bucket_test

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/ledger"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/mem"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest/contract"
)

// clock is set by hand.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// world is a repository in memory.
type world struct {
	*testing.T
	clock *clock
	store *mem.Store
}

const packSize = 16 << 10 // many of them

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, clock: &clock{at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}}
	w.store = mem.New(w.clock.now, false)
	if err := bucket.Create(t.Context(), w.store, bucket.CreateOptions{Options: w.options(), PackSize: packSize}); err != nil {
		t.Fatal(err)
	}
	return w
}

// options are those of a process that lives on another host than all others.
func (w *world) options() bucket.Options {
	return bucket.Options{
		Now: w.clock.now, Process: catalog.Process{Host: "a", PID: 1}, Dead: func(catalog.Process) bool { return false },
	}
}

// open opens the repository through s.
func (w *world) open(s objstore.Store) *bucket.Repository {
	w.Helper()
	r, err := bucket.Open(w.Context(), s, w.options())
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = r.Close() })
	return r
}

// objects lists all that is stored below a prefix.
func (w *world) objects(prefix string) (keys []string) {
	w.Helper()
	for i, err := range objstore.All(w.Context(), w.store, prefix, "") {
		if err != nil {
			w.Fatal(err)
		}
		keys = append(keys, i.Key)
	}
	return keys
}

// spoil damages the packs in which some bytes are.
func (w *world) spoil(chunk []byte) {
	w.Helper()
	found := false
	for _, key := range w.objects("s/") {
		b, _, err := objstore.ReadAll(w.Context(), w.store, key, 1<<30)
		if err != nil {
			w.Fatal(err)
		}
		at := bytes.Index(b, chunk)
		if at < 0 {
			continue
		}
		found = true
		b[at+len(chunk)-1] ^= 1
		_, err = w.store.Put(w.Context(), key, bytes.NewReader(b), objstore.PutOptions{})
		if err != nil {
			w.Fatal(err)
		}
	}
	if !found {
		w.Fatal("no pack has the chunk")
	}
}

func TestABucketKeepsThePromisesOfRepositories(t *testing.T) {
	contract.Run(t, func(t *testing.T) contract.Fixture {
		w := newWorld(t)
		r := w.open(w.store)
		return contract.Fixture{
			Repository: r, Start: w.clock.now(),
			Reopen: func(t *testing.T) contract.Repository { return w.open(w.store) },
			Spoil:  func(t *testing.T, chunk []byte) { w.spoil(chunk) },
			Sweep: func(t *testing.T) (repo.GCStatus, error) {
				w.clock.advance(time.Minute) // less than a lease: sessions run
				return r.GC(t.Context(), repo.GCOptions{Cutoff: time.Second})
			},
		}
	})
}

// state is what the log says.
func (w *world) state() ledger.State {
	w.Helper()
	l, err := ledger.Open(w.Context(), w.store, ledger.Options{Who: "test", Now: w.clock.now})
	if err != nil {
		w.Fatal(err)
	}
	return l.Seen()
}
