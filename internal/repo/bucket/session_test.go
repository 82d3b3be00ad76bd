package bucket_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/mem"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest/contract"
)

// picky is a store that refuses some calls.
type picky struct {
	objstore.Store
	put    func(key string) error
	delete error
}

func (p *picky) Put(ctx context.Context, key string, b objstore.Body, o objstore.PutOptions) (objstore.Info, error) {
	if p.put != nil {
		if err := p.put(key); err != nil {
			return objstore.Info{}, err
		}
	}
	return p.Store.Put(ctx, key, b, o)
}

func (p *picky) Delete(ctx context.Context, keys []string) error {
	if p.delete != nil {
		return p.delete
	}
	return p.Store.Delete(ctx, keys)
}

func TestAbortedSessionRemovesItsObjects(t *testing.T) {
	w := newWorld(t)
	ses, err := w.open(w.store).Begin(t.Context(), repo.Begin{Snapshot: at(w, "100", 0)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := contract.NewClient(t).WriteAll(t.Context(), ses, contract.Random(rand.New(rand.NewPCG(1, 1)), 100)); err != nil {
		t.Fatal(err)
	}
	if len(w.objects("s/")) == 0 {
		t.Fatal("nothing was stored before the end")
	}
	if err := ses.Abort(); err != nil {
		t.Fatal(err)
	}
	if left := w.objects("s/"); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	if n := pagebuf.Outstanding(); n > 0 {
		t.Errorf("%d buffers are left", n)
	}
}

func TestWithoutTheRightToRemoveBackupsWork(t *testing.T) {
	w := newWorld(t)
	r := w.open(&picky{Store: w.store, delete: fmt.Errorf("delete: %w", objstore.ErrDenied)})
	c := contract.NewClient(t)
	what := contract.Random(rand.New(rand.NewPCG(1, 1)), 30)
	ses, err := r.Begin(t.Context(), repo.Begin{Snapshot: at(w, "100", 0)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.WriteAll(t.Context(), ses, what); err != nil {
		t.Fatal(err)
	}
	if err := ses.Abort(); err != nil {
		t.Errorf("abort: %v", err)
	}
	for i := range int64(2) {
		if err := c.Backup(t.Context(), r, at(w, "100", i+1), what); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := c.Restore(t.Context(), r, at(w, "100", 2)); err != nil || !got.Equal(what) {
		t.Errorf("it does not restore: %v", err)
	}
}

func TestPackThatCannotBeStoredFailsTheBackup(t *testing.T) {
	full := errors.New("the bucket is full")
	for _, what := range []string{"/p", "/i", "/snapshot"} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			r := w.open(&picky{Store: w.store, put: func(key string) error {
				if strings.Contains(key, what) {
					return full
				}
				return nil
			}})
			c := contract.NewClient(t)
			n := at(w, "100", 0)
			if err := c.Backup(t.Context(), r, n, contract.Random(rand.New(rand.NewPCG(1, 1)), 200)); !errors.Is(err, full) {
				t.Fatalf("err = %v", err)
			}
			if _, err := r.Open(t.Context(), n); !errors.Is(err, repo.ErrNotFound) {
				t.Errorf("open: %v", err)
			}
			if left := w.objects("s/"); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
			if n := pagebuf.Outstanding(); n > 0 {
				t.Errorf("%d buffers are left", n)
			}
		})
	}
}

// Many chunks wait for a slow store, and no more packs are in memory than were
// promised.
func TestPacksInMemoryAreBounded(t *testing.T) {
	w := newWorld(t)
	var most atomic.Int64
	r := w.open(&picky{Store: w.store, put: func(string) error {
		n := int64(pagebuf.Outstanding())
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		time.Sleep(time.Millisecond)
		return nil
	}})
	c := contract.NewClient(t)
	what := contract.Random(rand.New(rand.NewPCG(1, 1)), 500)
	if err := c.Backup(t.Context(), r, at(w, "100", 0), what); err != nil {
		t.Fatal(err)
	}
	if most.Load() != 3 {
		t.Errorf("%d packs in memory, want 3", most.Load())
	}
	if got, err := c.Restore(t.Context(), r, at(w, "100", 0)); err != nil || !got.Equal(what) {
		t.Errorf("it does not restore: %v", err)
	}
	if n := pagebuf.Outstanding(); n > 0 {
		t.Errorf("%d buffers are left", n)
	}
}

func TestObjectsAreLockedForAsLongAsTheRepositorySays(t *testing.T) {
	w := newWorld(t)
	w.store = mem.New(w.clock.now, true)
	o := bucket.CreateOptions{Options: w.options(), PackSize: packSize, Retention: &catalog.Retention{Mode: catalog.Governance, Days: 30}}
	if err := bucket.Create(t.Context(), w.store, o); err != nil {
		t.Fatal(err)
	}
	c := contract.NewClient(t)
	if err := c.Backup(t.Context(), w.open(w.store), at(w, "100", 0), contract.Random(rand.New(rand.NewPCG(1, 1)), 30)); err != nil {
		t.Fatal(err)
	}
	for _, days := range []int{29, 2} {
		w.clock.advance(time.Duration(days) * 24 * time.Hour)
		for _, key := range w.objects("") {
			err := w.store.Delete(t.Context(), []string{key})
			if locked := errors.Is(err, objstore.ErrDenied); locked != (days == 29) {
				t.Errorf("%s after %d days: %v", key, days, err)
			}
		}
	}
}

func TestARepositoryIsMadeOnce(t *testing.T) {
	w := newWorld(t)
	if err := bucket.Create(t.Context(), w.store, bucket.CreateOptions{Options: w.options()}); !errors.Is(err, repo.ErrExists) {
		t.Errorf("twice: %v", err)
	}
	empty := mem.New(w.clock.now, false)
	if _, err := bucket.Open(t.Context(), empty, w.options()); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("nothing is there: %v", err)
	}
	// The first attempt got as far as the marker.
	half := &picky{Store: empty, put: func(key string) error {
		if strings.HasPrefix(key, "log/") {
			return objstore.ErrDenied
		}
		return nil
	}}
	if err := bucket.Create(t.Context(), half, bucket.CreateOptions{Options: w.options()}); !errors.Is(err, objstore.ErrDenied) {
		t.Errorf("without the log: %v", err)
	}
	if err := bucket.Create(t.Context(), empty, bucket.CreateOptions{Options: w.options()}); err != nil {
		t.Errorf("again: %v", err)
	}
	if _, err := bucket.Open(t.Context(), empty, w.options()); err != nil {
		t.Error(err)
	}
	for _, size := range []int64{1, bucket.MaxPackSize + 1} {
		if err := bucket.Create(t.Context(), mem.New(w.clock.now, false), bucket.CreateOptions{Options: w.options(), PackSize: size}); err == nil {
			t.Errorf("packs of %d bytes", size)
		}
	}
}

// mute is a store whose answers to one entry of the log get lost, and which cannot be
// asked for it for a while.
type mute struct {
	objstore.Store
	entries, blind int
}

var errLine = errors.New("the connection broke")

func (m *mute) Put(ctx context.Context, key string, b objstore.Body, o objstore.PutOptions) (objstore.Info, error) {
	i, err := m.Store.Put(ctx, key, b, o)
	if strings.HasPrefix(key, "log/") && err == nil {
		if m.entries--; m.entries == 0 {
			m.blind = 2
			return i, errLine
		}
	}
	return i, err
}

func (m *mute) Get(ctx context.Context, key string, off, n int64) (objstore.Object, error) {
	if m.blind > 0 && strings.HasPrefix(key, "log/") {
		m.blind--
		return objstore.Object{}, errLine
	}
	return m.Store.Get(ctx, key, off, n)
}

func TestBackupOfWhichNobodyKnewWhetherItCountsIsLookedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		m := &mute{Store: w.store, entries: 2}
		c := contract.NewClient(t)
		n := at(w, "100", 0)
		what := contract.Random(rand.New(rand.NewPCG(1, 1)), 3)
		if err := c.Backup(t.Context(), w.open(m), n, what); err != nil || m.entries != 0 {
			t.Fatalf("it is there, and it says %v", err)
		}
		if got, err := c.Restore(t.Context(), w.open(w.store), n); err != nil || !got.Equal(what) {
			t.Errorf("it does not restore: %v", err)
		}
	})
}

func TestWhoStoresWhileTheSessionIsAbortedIsToldSo(t *testing.T) {
	w := newWorld(t)
	r := w.open(w.store)
	rng := rand.New(rand.NewPCG(1, 1))
	for round := range int64(20) {
		ses, err := r.Begin(t.Context(), repo.Begin{Snapshot: at(w, "100", round)})
		if err != nil {
			t.Fatal(err)
		}
		what := contract.Random(rng, 300)
		var work sync.WaitGroup
		begun := make(chan struct{}, 4)
		for part := range 4 {
			work.Go(func() {
				c := contract.NewClient(t)
				for i := part; ; i = (i + 4) % 299 {
					select {
					case begun <- struct{}{}:
					default:
					}
					err := c.Send(t.Context(), ses, what.Image[i*contract.ChunkSize:(i+1)*contract.ChunkSize])
					if err == nil {
						what.Image[i*contract.ChunkSize]++ // another one, next time
						continue
					}
					if !strings.Contains(err.Error(), "has ended") {
						t.Errorf("put: %v", err)
					}
					return
				}
			})
		}
		for range 4 {
			<-begun
		}
		if err := ses.Abort(); err != nil {
			t.Error(err)
		}
		work.Wait()
	}
	if n := pagebuf.Outstanding(); n > 0 {
		t.Errorf("%d buffers are left", n)
	}
	if left := w.objects("s/"); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
