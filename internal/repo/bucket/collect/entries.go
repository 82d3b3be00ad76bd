package collect

import (
	"maps"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/format/packrefs"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

// outcome is what a collection found and wrote. One entry makes it true: until then
// it is nothing but objects that nobody names.
type outcome struct {
	number  catalog.Number // of the session
	now     time.Time      // by the clock of the store, at its beginning
	counted []catalog.Number

	idle    map[pack.ID]packrefs.Day // that nobody needs, and until when they are locked
	needed  map[pack.ID]bool         // that are on lists, and that somebody needs
	objects map[string]packrefs.Day  // that were replaced

	removed   map[string][]pack.ID // lists of which nothing is there any more, which the counts know
	runs      map[string]catalog.Run
	replaced  []string // records of indexes
	moved     map[pack.ID]catalog.Moved
	forgotten []pack.ID // moved packs that nobody names
	gone      []catalog.Number
	healed    []string                          // records of damaged chunks that nobody needs
	ended     map[catalog.Number]*catalog.Ended // nil: nothing of it is left

	collected catalog.Collected
}

// commit makes it true, and ends the session.
func (o *outcome) commit(tx catalog.Tx) error {
	if _, err := catalog.Alive(tx, o.number); err != nil {
		return err
	}
	tx.Delete(catalog.SessionKey(o.number))
	pending, running, err := o.pending(tx)
	if err != nil {
		return err
	}
	for _, key := range o.replaced {
		tx.Delete(key)
	}
	if err := o.bury(tx, running); err != nil {
		return err
	}
	for key, r := range o.runs {
		if err := catalog.Set(tx, key, r); err != nil {
			return err
		}
	}
	listed, err := o.review(tx, pending)
	if err != nil {
		return err
	}
	for id, m := range o.moved {
		if err := catalog.Set(tx, catalog.MovedKey(id), m); err != nil {
			return err
		}
	}
	if err := o.condemn(tx, listed, pending); err != nil {
		return err
	}
	for _, n := range o.gone {
		tx.Delete(catalog.GoneKey(n))
	}
	if err := o.heal(tx, pending); err != nil {
		return err
	}
	for n, rec := range o.ended {
		if rec == nil {
			tx.Delete(catalog.EndedKey(n))
		} else if err := catalog.Set(tx, catalog.EndedKey(n), *rec); err != nil {
			return err
		}
	}
	return catalog.Set(tx, catalog.GCKey, o.collected)
}

// pending are the sessions whose needs are not counted: those that run, and those
// whose snapshots came meanwhile.
func (o *outcome) pending(r catalog.Reader) (pending map[catalog.Number]bool, running []catalog.Running, err error) {
	if running, err = catalog.Sessions(r); err != nil {
		return nil, nil, err
	}
	pending = map[catalog.Number]bool{}
	for _, s := range running {
		pending[s.Number] = true
	}
	snapshots, err := sessionsOf(r)
	if err != nil {
		return nil, nil, err
	}
	for _, n := range snapshots {
		if _, ok := slices.BinarySearch(o.counted, n); !ok {
			pending[n] = true
		}
	}
	return pending, running, nil
}

// bury forgets the lists of what is not there any more. From then on the indexes say
// it. A list stays for the sessions that began before it was doomed, so that a commit which
// broke the rules is still refused.
func (o *outcome) bury(tx catalog.Tx, running []catalog.Running) error {
	var void []pack.ID
	for _, key := range slices.Sorted(maps.Keys(o.removed)) {
		list, ok, err := catalog.Get[catalog.Dead](tx, key)
		if err != nil {
			return err
		}
		if !ok || slices.ContainsFunc(running, func(s catalog.Running) bool { return s.Number < list.Doomed }) {
			continue
		}
		void = append(void, o.removed[key]...)
		tx.Delete(key)
	}
	return markVoid(tx, void)
}

// markVoid tells the indexes which packs are not there.
func markVoid(tx catalog.Tx, void []pack.ID) error {
	if len(void) == 0 {
		return nil
	}
	for key, raw := range tx.Scan(catalog.RunPrefix) {
		run, err := catalog.Parse[catalog.Run](key, raw)
		if err != nil {
			return err
		}
		first, last := spread(key, run)
		before := len(run.Void)
		told := map[pack.ID]bool{}
		for _, id := range run.Void {
			told[id] = true
		}
		for _, id := range void {
			if n := catalog.Number(id.Session); first <= n && n <= last && !told[id] {
				run.Void = append(run.Void, id)
			}
		}
		if len(run.Void) == before {
			continue
		}
		if err := catalog.Set(tx, key, run); err != nil {
			return err
		}
	}
	return nil
}

// review takes off the lists what is needed again and whom they need not wait for any
// more. It returns all packs that are still on one.
func (o *outcome) review(tx catalog.Tx, pending map[catalog.Number]bool) (listed map[pack.ID]bool, err error) {
	listed = map[pack.ID]bool{}
	for key, raw := range tx.Scan(catalog.DeadPrefix) {
		list, err := catalog.Parse[catalog.Dead](key, raw)
		if err != nil {
			return nil, err
		}
		before := len(list.Packs) + len(list.Sessions)
		if list.Doomed == 0 {
			list.Packs = slices.DeleteFunc(list.Packs, func(id pack.ID) bool { return o.needed[id] })
			list.Sessions = slices.DeleteFunc(list.Sessions, func(n catalog.Number) bool { return !pending[n] })
		}
		for _, id := range list.Packs {
			listed[id] = true
		}
		switch {
		case list.Empty():
			tx.Delete(key)
		case len(list.Packs)+len(list.Sessions) != before:
			if err := catalog.Set(tx, key, list); err != nil {
				return nil, err
			}
		}
	}
	return listed, nil
}

// condemn lists what nobody needs and what is on no list, one list for each day on
// which locks end.
func (o *outcome) condemn(tx catalog.Tx, listed map[pack.ID]bool, pending map[catalog.Number]bool) error {
	lists := map[packrefs.Day]*catalog.Dead{}
	of := func(until packrefs.Day) *catalog.Dead {
		if !o.now.Before(until.Time()) {
			until = 0
		}
		if lists[until] == nil {
			lists[until] = &catalog.Dead{At: o.now, Sessions: slices.Sorted(maps.Keys(pending))}
			if until != 0 {
				lists[until].Locked = until.Time()
			}
		}
		return lists[until]
	}
	for _, id := range slices.SortedFunc(maps.Keys(o.idle), pack.ID.Compare) {
		if !listed[id] {
			l := of(o.idle[id])
			l.Packs = append(l.Packs, id)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(o.objects)) {
		l := of(o.objects[key])
		l.Objects = append(l.Objects, key)
	}
	if len(o.forgotten) > 0 {
		l := of(0)
		l.Moved = o.forgotten
	}
	for i, day := range slices.Sorted(maps.Keys(lists)) {
		if err := catalog.Set(tx, catalog.DeadKey(catalog.Number(tx.Seq()), i), *lists[day]); err != nil {
			return err
		}
	}
	return nil
}

// heal forgets damaged chunks that no snapshot needs where they are damaged, if none can have
// come meanwhile.
func (o *outcome) heal(tx catalog.Tx, pending map[catalog.Number]bool) error {
	if len(pending) > 0 {
		return nil
	}
	for _, key := range o.healed {
		tx.Delete(key)
	}
	return nil
}

// doom says which lists are removed now: nobody is waited for, the grace time is over, and so
// are the locks. From then on their packs are taken for gone.
func doom(tx catalog.Tx, now time.Time, grace time.Duration) ([]string, error) {
	var keys []string
	for key, raw := range tx.Scan(catalog.DeadPrefix) {
		list, err := catalog.Parse[catalog.Dead](key, raw)
		if err != nil {
			return nil, err
		}
		if list.Removed {
			continue
		}
		if list.Doomed == 0 {
			if !due(list, now, grace) {
				continue
			}
			for _, id := range list.Moved {
				tx.Delete(catalog.MovedKey(id))
			}
			list.Doomed, list.Moved = catalog.Number(tx.Seq()), nil
			if err := catalog.Set(tx, key, list); err != nil {
				return nil, err
			}
			if err := leave(tx, list.Packs); err != nil {
				return nil, err
			}
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// leave says of packs that moved that they are not there any more, so that readers go where
// the chunks are.
func leave(tx catalog.Tx, packs []pack.ID) error {
	for _, id := range packs {
		m, ok, err := catalog.Get[catalog.Moved](tx, catalog.MovedKey(id))
		if err != nil {
			return err
		}
		if m.Void = true; !ok {
			continue
		}
		if err := catalog.Set(tx, catalog.MovedKey(id), m); err != nil {
			return err
		}
	}
	return nil
}

func due(list catalog.Dead, now time.Time, grace time.Duration) bool {
	return len(list.Sessions) == 0 && now.Sub(list.At) >= grace && !now.Before(list.Locked)
}

// record says what is not there any more of lists that were doomed: all but what was
// left.
func record(tx catalog.Tx, keys []string, left map[string]bool, status repo.GCStatus, state string) error {
	next := 0
	for _, key := range keys {
		list, ok, err := catalog.Get[catalog.Dead](tx, key)
		if err != nil {
			return err
		}
		if !ok || list.Removed {
			continue // somebody else did
		}
		stays, goes := list, list
		stays.Packs, goes.Packs = part(list.Packs, func(id pack.ID) bool { return left[id.Key()] })
		stays.Objects, _ = part(list.Objects, func(k string) bool { return left[k] })
		goes.Objects, goes.Removed = nil, true
		switch {
		case len(stays.Packs)+len(stays.Objects) == 0 && len(goes.Packs) == 0:
			tx.Delete(key)
			continue
		case len(stays.Packs)+len(stays.Objects) == 0:
			stays = goes
		case len(goes.Packs) > 0:
			if err := catalog.Set(tx, catalog.DeadKey(catalog.Number(tx.Seq()), next), goes); err != nil {
				return err
			}
			next++
		}
		if err := catalog.Set(tx, key, stays); err != nil {
			return err
		}
	}
	last, _, err := catalog.Get[catalog.Collected](tx, catalog.GCKey)
	if err != nil || last.State != state {
		return err // another collection has ended meanwhile
	}
	last.Status = status
	return catalog.Set(tx, catalog.GCKey, last)
}

// part divides a list.
func part[T any](all []T, first func(T) bool) (a, b []T) {
	for _, v := range all {
		if first(v) {
			a = append(a, v)
		} else {
			b = append(b, v)
		}
	}
	return a, b
}

// week is how long the number of a session that ended is looked at: a request may be late.
const week = 7 * 24 * time.Hour

// seen is what is told of a session that ended, after what lies below its number was
// removed but for so many objects; nil: nothing more.
func seen(e catalog.Ended, now time.Time, left int) *catalog.Ended {
	if e.Seen.IsZero() {
		e.Seen = now
	} else if left == 0 && now.Sub(e.Seen) >= week {
		return nil
	}
	return &e
}

// keys are those of the objects in lists.
func keysOf(list catalog.Dead) []string {
	keys := slices.Clone(list.Objects)
	for _, id := range list.Packs {
		keys = append(keys, id.Key())
	}
	return keys
}
