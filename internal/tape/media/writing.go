package media

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
)

// Writing is a backup to a pool: it holds the lock of one media set, to which it
// adds media. It is not safe for concurrent use.
type Writing struct {
	s       *State
	pool    Pool
	changer string
	set     uuid.UUID
	why     string
	unlock  func() error
}

// Write begins a backup to a pool. changer is the one of the drive; "" means a
// drive that people serve. A new media set is begun if force asks for it, the
// pool's allocation does, or the current one cannot be used; nothing of that is
// stored until [Writing.Next] has taken a medium.
func (s *State) Write(ctx context.Context, p Pool, changer string, now time.Time, force bool) (w *Writing, err error) {
	w = &Writing{s: s, pool: p, changer: changer}
	// Lock, then look again: another backup may have begun a set meanwhile.
	for {
		set, why, err := w.choose(ctx, now, force)
		if err != nil {
			return nil, err
		}
		if w.unlock, err = s.LockSet(ctx, set); err != nil {
			return nil, err
		}
		w.set, w.why = set, why
		if why != "" {
			return w, nil // nobody else knows the new uuid
		}
		again, why, err := w.choose(ctx, now, force)
		if err == nil && again == set && why == "" {
			return w, nil
		}
		if err = errors.Join(err, w.unlock()); err != nil {
			return nil, err
		}
	}
}

// choose decides under the pool's lock which set to write to.
func (w *Writing) choose(ctx context.Context, now time.Time, force bool) (set uuid.UUID, why string, err error) {
	err = w.s.underPool(ctx, w.pool.Name, func() error {
		v, err := w.s.view(w.pool, w.changer)
		if err != nil {
			return err
		}
		set, why = v.set.UUID, v.whyNew(now, force)
		if why != "" {
			set, err = uuid.NewRandom()
		}
		return err
	})
	return set, why, err
}

// Close lets go of the media set.
func (w *Writing) Close() error { return w.unlock() }

// Set is the media set that is written to.
func (w *Writing) Set() uuid.UUID { return w.set }

// NewSet says why a new media set was begun, "" if it was not.
func (w *Writing) NewSet() string { return w.why }

// Pool is the pool that is written to.
func (w *Writing) Pool() Pool { return w.pool }

// Media returns the media that the set has so far, in their order.
func (w *Writing) Media() ([]Medium, error) {
	inv, err := w.s.Inventory()
	if err != nil {
		return nil, err
	}
	set, err := inv.MediaSet(w.set)
	if err != nil || len(set.Members) == 0 {
		return nil, err
	}
	return inv.SetMedia(w.set)
}

// Next returns the medium to write to: the last one of the set as long as it is
// writable and within reach, and else one that is added to the set. That one has
// its media-set label in the inventory and an empty catalog, and maybe something
// else on the medium. The error wraps ErrNoMedia if there is none.
func (w *Writing) Next(ctx context.Context, now time.Time) (m Medium, added bool, err error) {
	for _, pool := range []string{w.pool.Name, ""} {
		err = w.s.underPool(ctx, pool, func() error {
			m, added, err = w.next(ctx, now, pool == "")
			return err
		})
		if !errors.Is(err, ErrNoMedia) {
			return m, added, err
		}
	}
	return m, false, err
}

// next takes a medium of the pool, or one of those without pool.
func (w *Writing) next(ctx context.Context, now time.Time, free bool) (Medium, bool, error) {
	v, err := w.view()
	if err != nil {
		return Medium{}, false, err
	}
	last, err := v.usable()
	if err != nil {
		return Medium{}, false, fmt.Errorf("media set %s: %w", w.set, err)
	}
	if last {
		m, err := v.inv.Find(v.set.Last())
		return m, false, err
	}
	if len(v.set.Members) >= MaxMembers {
		return Medium{}, false, fmt.Errorf("media set %s has %d media, and no more are possible; begin a new one", w.set, MaxMembers)
	}
	for _, m := range v.candidates(now) {
		if (m.Pool() == "") != free {
			continue
		}
		m, ok, err := w.add(ctx, m, len(v.set.Members), now)
		if ok || err != nil {
			return m, ok, err
		}
	}
	return Medium{}, false, v.noMedia()
}

// add makes a medium the next of the set. It reports false if somebody reads the
// set that the medium is from.
func (w *Writing) add(ctx context.Context, m Medium, seq int, now time.Time) (_ Medium, ok bool, err error) {
	if m.InSet() {
		unlock, err := w.s.lockSet(ctx, m.Set.UUID, 0)
		if errors.Is(err, confdir.ErrBusy) {
			return m, false, nil
		}
		if err != nil {
			return m, false, err
		}
		defer func() { err = errors.Join(err, unlock()) }()
	}
	m.Set = &tapefile.SetLabel{Pool: w.pool.Name, UUID: w.set, Seq: uint64(seq), Ctime: now.Unix(), Key: w.pool.Key}
	m.Status = ""
	// The catalog first: as long as the inventory has the medium in its old set,
	// a crash costs that set a catalog, which its medium still has.
	c, err := w.s.NewCatalog(m)
	if err != nil {
		return m, false, err
	}
	if err := c.Close(); err != nil {
		return m, false, err
	}
	return m, true, w.s.Store(ctx, m.Label, m.Set, true)
}

// view looks at the pool with the set of this backup as the current one.
func (w *Writing) view() (View, error) {
	v, err := w.s.view(w.pool, w.changer)
	if err == nil && v.set.UUID != w.set {
		v.set, err = v.inv.MediaSet(w.set)
	}
	return v, err
}

func (s *State) view(p Pool, changer string) (View, error) {
	inv, err := s.Inventory()
	if err != nil {
		return View{}, err
	}
	return newView(inv, p, changer, s.loc)
}

func (s *State) underPool(ctx context.Context, pool string, work func() error) (err error) {
	unlock, err := s.LockPool(ctx, pool)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	return work()
}
