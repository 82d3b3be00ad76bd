package bucket_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest/contract"
)

// mortal is a store in the eyes of a process that dies: of its calls only so many
// are heard, and with late the answer to the last one is not.
type mortal struct {
	objstore.Store
	late bool

	mu   sync.Mutex
	left int
}

var errDead = errors.New("the process is dead")

// call runs f while the process lives.
func (m *mortal) call(f func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left == 0 {
		return errDead
	}
	m.left--
	err := f()
	if m.left == 0 && m.late {
		return errDead
	}
	return err
}

func (m *mortal) Get(ctx context.Context, key string, off, n int64) (o objstore.Object, err error) {
	err = m.call(func() error { o, err = m.Store.Get(ctx, key, off, n); return err })
	return o, err
}

func (m *mortal) Put(ctx context.Context, key string, b objstore.Body, o objstore.PutOptions) (i objstore.Info, err error) {
	err = m.call(func() error { i, err = m.Store.Put(ctx, key, b, o); return err })
	return i, err
}

func (m *mortal) Stat(ctx context.Context, key string) (i objstore.Info, err error) {
	err = m.call(func() error { i, err = m.Store.Stat(ctx, key); return err })
	return i, err
}

func (m *mortal) List(ctx context.Context, prefix, after string, limit int) (l []objstore.Info, more bool, err error) {
	err = m.call(func() error { l, more, err = m.Store.List(ctx, prefix, after, limit); return err })
	return l, more, err
}

func (m *mortal) Delete(ctx context.Context, keys []string) error {
	return m.call(func() error { return m.Store.Delete(ctx, keys) })
}

// died reports whether the process is dead.
func (m *mortal) died() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.left == 0
}

// Whatever the last thing was that a process did: what it said was done is done,
// what is listed restores, and the next backup just works.
func TestProcessMayDieAfterAnyCall(t *testing.T) {
	t.Parallel()
	for _, work := range []struct {
		name string
		run  func(ctx context.Context, c *contract.Client, r *bucket.Repository, d *deed) error
	}{
		{"backup", func(ctx context.Context, c *contract.Client, r *bucket.Repository, d *deed) error {
			return c.Backup(ctx, r, d.at(2), d.second)
		}},
		{"first backup of a group", func(ctx context.Context, c *contract.Client, r *bucket.Repository, d *deed) error {
			n := d.at(2)
			n.ID = "200"
			return c.Backup(ctx, r, n, d.second)
		}},
		{"abort", func(ctx context.Context, c *contract.Client, r *bucket.Repository, d *deed) error {
			ses, err := r.Begin(ctx, repo.Begin{Snapshot: d.at(2)})
			if err != nil {
				return err
			}
			_, err = c.WriteAll(ctx, ses, d.second)
			return errors.Join(err, ses.Abort())
		}},
		{"mend", func(ctx context.Context, c *contract.Client, r *bucket.Repository, d *deed) error {
			return c.MendAll(ctx, r, d.at(1), d.first)
		}},
		{"refill", func(ctx context.Context, c *contract.Client, r *bucket.Repository, d *deed) error {
			return d.refill(ctx, c, r)
		}},
	} {
		t.Run(work.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // waits take no time
				for _, late := range []bool{false, true} {
					for calls, done := 1, false; !done; calls++ {
						d := newDeed(t)
						m := &mortal{Store: d.store, late: late, left: calls}
						r, err := bucket.Open(t.Context(), m, d.options())
						if err == nil {
							err = work.run(t.Context(), d.client, r, d)
						}
						done = !m.died()
						if done && err != nil {
							t.Fatalf("nothing happened, and it failed: %v", err)
						}
						if why := d.check(work.name, err); why != nil {
							t.Fatalf("dead after call %d (late: %v, it said %v): %v", calls, late, err, why)
						}
					}
				}
			})
		})
	}
}

// deed is a repository with one backup, and what is to become of it.
type deed struct {
	*world
	client        *contract.Client
	start         int64
	first, second contract.Content
	other         contract.Copy
}

func newDeed(t *testing.T) *deed {
	w := newWorld(t)
	d := &deed{world: w, client: contract.NewClient(t), start: w.clock.now().Unix()}
	rng := rand.New(rand.NewPCG(4, 4))
	d.first = contract.Random(rng, 40)
	d.second = d.first.Changed(rng).Changed(rng)
	r := w.open(w.store)
	if err := d.client.Backup(t.Context(), r, d.at(1), d.first); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *deed) at(hours int64) names.Snapshot {
	return names.Snapshot{Group: names.Group{Type: names.VM, ID: "100"}, Time: d.start + hours*3600}
}

// refill brings a backup of another guest back that was taken from another repository.
func (d *deed) refill(ctx context.Context, c *contract.Client, r *bucket.Repository) (err error) {
	if d.other.Manifest == nil {
		from := newWorld(d.T)
		n := d.at(2)
		n.ID = "200"
		if err := c.Backup(ctx, from.open(from.store), n, d.second); err != nil {
			return err
		}
		if d.other, err = c.TakeAway(ctx, from.open(from.store), n); err != nil {
			return err
		}
	}
	f, err := r.Refill(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for name, raw := range d.other.Chunks {
		if ok, err := f.Has(ctx, name); ok || err != nil {
			if err != nil {
				return err
			}
			continue
		}
		if _, err := f.Put(ctx, name, raw); err != nil {
			return err
		}
	}
	return c.BringBack(ctx, f, d.other)
}

// check is what another process finds, when the lease of the dead one is over.
func (d *deed) check(work string, said error) error {
	ctx := d.Context()
	d.clock.advance(time.Hour)
	r := d.open(d.store)
	infos, err := r.Snapshots(ctx, "", nil)
	if err != nil {
		return err
	}
	listed := 0
	for _, i := range infos {
		if !i.Finished {
			continue
		}
		listed++
		want := d.second
		if i.Snapshot == d.at(1) {
			want = d.first
		}
		if got, err := d.client.Restore(ctx, r, i.Snapshot); err != nil || !got.Equal(want) {
			return fmt.Errorf("%s is listed and does not restore: %w", i.Snapshot, err)
		}
	}
	wanted := map[string]int{"backup": 2, "first backup of a group": 2, "refill": 2}[work]
	if said == nil && wanted > 0 && listed != wanted {
		return fmt.Errorf("it said that all is well, and %d snapshots are listed", listed)
	}
	n := d.at(3)
	for _, id := range []string{"100", "200"} {
		n.ID = id
		if err := d.client.Backup(ctx, r, n, d.second); err != nil {
			return fmt.Errorf("the next backup: %w", err)
		}
		if got, err := d.client.Restore(ctx, r, n); err != nil || !got.Equal(d.second) {
			return fmt.Errorf("the next backup does not restore: %w", err)
		}
	}
	return d.left()
}

// left sees that nothing lies where no garbage collection looks: below a session that
// made no snapshot and left no index, and of which nobody says that it has ended.
func (d *deed) left() error {
	s := d.state()
	for _, key := range d.objects("s/") {
		n, err := catalog.ParseNumber(key[2:18])
		if err != nil {
			return err
		}
		_, ended := s.Get(catalog.EndedKey(n))
		_, running := s.Get(catalog.SessionKey(n))
		if ended || running {
			continue
		}
		used := false
		for range s.Scan(catalog.RunPrefix + n.String()) {
			used = true
		}
		for _, prefix := range []string{catalog.SnapshotPrefix, catalog.GonePrefix} {
			for key, raw := range s.Scan(prefix) {
				snap, err := catalog.Parse[catalog.Snapshot](key, raw)
				used = used || err == nil && snap.Session == n || key == catalog.GoneKey(n)
			}
		}
		if !used {
			return fmt.Errorf("%s is left, and nobody will remove it", key)
		}
	}
	return nil
}
