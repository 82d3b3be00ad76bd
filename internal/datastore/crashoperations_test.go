package datastore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest/contract"
	"github.com/holdfast-backup/holdfast/internal/retention"
)

type operation struct {
	name  string
	begin func(t *tester, w *world, rng *rand.Rand) func(*datastore.Store) error
}

var operations = []operation{
	{"backup", beginBackup},
	{"backup of the other guest", func(t *tester, w *world, rng *rand.Rand) func(*datastore.Store) error {
		return t.beginBackupOf(w, "200", rng)
	}},
	{"forget", func(_ *tester, w *world, rng *rand.Rand) func(*datastore.Store) error {
		n, ok := pick(w, rng)
		if !ok {
			return nil
		}
		w.doubt(n)
		return func(s *datastore.Store) error {
			err := s.Forget(context.Background(), n)
			if err == nil {
				delete(w.may, n)
			}
			return err
		}
	}},
	{"forget a group", func(_ *tester, w *world, rng *rand.Rand) func(*datastore.Store) error {
		n, ok := pick(w, rng)
		if !ok {
			return nil
		}
		w.doubtGroup(n)
		return func(s *datastore.Store) error {
			_, err := s.ForgetGroup(context.Background(), n.NS, n.Group)
			if err == nil {
				clear(w.may)
			}
			return err
		}
	}},
	{"prune", func(_ *tester, w *world, rng *rand.Rand) func(*datastore.Store) error {
		n, ok := pick(w, rng)
		if !ok {
			return nil
		}
		newest := n
		for o := range w.must {
			if o.GroupPath() == n.GroupPath() && o.Time > newest.Time {
				newest = o
			}
		}
		kept := w.must[newest]
		w.doubtGroup(n)
		delete(w.may, newest)
		w.must[newest] = kept
		return func(s *datastore.Store) error {
			results, err := s.Prune(context.Background(), repo.PruneOptions{Namespace: n.NS, Group: &n.Group, Keep: retention.Options{Last: 1}})
			for _, r := range results {
				err = errors.Join(err, r.Err)
			}
			if err == nil {
				clear(w.may)
			}
			return err
		}
	}},
	{"garbage collection", func(*tester, *world, *rand.Rand) func(*datastore.Store) error {
		return collect
	}},
	{"removal by another program, then garbage collection", func(_ *tester, w *world, rng *rand.Rand) func(*datastore.Store) error {
		n, ok := pick(w, rng)
		if !ok {
			return nil
		}
		w.doubt(n)
		w.careless[n] = true // a server syncs nothing when it removes
		return func(s *datastore.Store) error {
			entries, err := w.disk.ReadDir(n.Path())
			if err != nil {
				return err
			}
			for _, e := range entries {
				if err := w.disk.Remove(n.Path() + "/" + e.Name); err != nil {
					return err
				}
			}
			if err := w.disk.Remove(n.Path()); err != nil {
				return err
			}
			err = collect(s)
			if err == nil {
				delete(w.may, n)
			}
			return err
		}
	}},
	{"notes", func(_ *tester, w *world, rng *rand.Rand) func(*datastore.Store) error {
		n, ok := pick(w, rng)
		if !ok {
			return nil
		}
		return func(s *datastore.Store) error {
			return s.SetNotes(context.Background(), n, "before the upgrade")
		}
	}},
	{"log", func(t *tester, w *world, rng *rand.Rand) func(*datastore.Store) error {
		n, ok := pick(w, rng)
		if !ok || w.mustLog[n] != "" || w.mayLog[n] != "" {
			return nil
		}
		text := fmt.Sprintf("run %d: done", rng.IntN(1<<16))
		w.mayLog[n] = text
		return func(s *datastore.Store) error {
			err := t.putLog(context.Background(), s, n, text)
			if err == nil {
				w.mustLog[n] = text
				delete(w.mayLog, n)
			}
			return err
		}
	}},
	{"verify", func(*tester, *world, *rand.Rand) func(*datastore.Store) error {
		return func(s *datastore.Store) error {
			rep, err := s.Verify(context.Background(), repo.VerifyOptions{Workers: 1})
			for _, v := range rep.Snapshots {
				err = errors.Join(err, errors.Join(v.Errors...))
			}
			return err
		}
	}},
	{"mend", func(t *tester, w *world, rng *rand.Rand) func(*datastore.Store) error {
		n, ok := pick(w, rng)
		if !ok {
			return nil
		}
		c := w.must[n]
		return func(s *datastore.Store) error { return t.mend(context.Background(), s, n, c.Image, c.Conf) }
	}},
	{"move", func(_ *tester, w *world, rng *rand.Rand) func(*datastore.Store) error {
		n, ok := pick(w, rng)
		to := names.Namespace("elsewhere")
		if n.NS == to {
			to = names.Root
		}
		if !ok || !w.move(n, to) {
			return nil
		}
		return func(s *datastore.Store) error {
			err := s.MoveGroup(context.Background(), n.NS, n.Group, to, true)
			if errors.Is(err, repo.ErrOwner) { // the other half of the group belongs to somebody else by now
				return nil
			}
			return err
		}
	}},
	{"change of owner", func(_ *tester, w *world, rng *rand.Rand) func(*datastore.Store) error {
		n, ok := pick(w, rng)
		if !ok {
			return nil
		}
		return func(s *datastore.Store) error {
			return s.SetOwner(context.Background(), n.NS, n.Group, "backup@pbs")
		}
	}},
}

func beginBackup(t *tester, w *world, rng *rand.Rand) func(*datastore.Store) error {
	return t.beginBackupOf(w, "100", rng)
}

func (t *tester) beginBackupOf(w *world, id string, rng *rand.Rand) func(*datastore.Store) error {
	n := snapshotAt(id, w.disk.Now())
	c := contract.Random(rng, 6)
	if base, ok := pick(w, rng); ok {
		c = w.must[base].Changed(rng)
	}
	w.may[n] = c
	return func(s *datastore.Store) error {
		err := t.backup(context.Background(), s, n, c.Image, c.Conf)
		if err == nil {
			w.must[n] = c
			delete(w.may, n)
		}
		return err
	}
}

// collect removes garbage at once: all writers are known, so nothing is spared
// for their sake.
func collect(s *datastore.Store) error {
	st, err := s.GC(context.Background(), repo.GCOptions{SkipAtimeCheck: true})
	for _, warning := range st.Warnings {
		if strings.Contains(warning, "damaged") { // it would stop a server's collection
			err = errors.Join(err, errors.New(warning))
		}
	}
	return err
}
