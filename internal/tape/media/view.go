package media

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrNoMedia is wrapped when a pool has no medium that could be written to.
var ErrNoMedia = errors.New("no medium to write to")

// View is how one pool looks at the inventory: what its media are good for. It
// decides and does nothing.
type View struct {
	inv  *Inventory
	pool Pool
	set  Set // that backups go on with
	loc  *time.Location
	// changer is the one whose media can be used; "" means a drive without
	// changer, for which people fetch media.
	changer string
	all     bool // everything outside vaults can be used
}

// NewView looks at the inventory as a backup of now does that uses all media
// within reach.
func NewView(inv *Inventory, p Pool, now time.Time, loc *time.Location) (View, error) {
	v, err := newView(inv, p, "", loc)
	if err != nil {
		return View{}, err
	}
	v.all = true
	if v.whyNew(now, false) != "" {
		v.set = Set{}
	}
	return v, nil
}

func newView(inv *Inventory, p Pool, changer string, loc *time.Location) (View, error) {
	v := View{inv: inv, pool: p, changer: changer, loc: loc}
	if id, ok := inv.Current(p.Name); ok {
		var err error
		if v.set, err = inv.MediaSet(id); err != nil {
			return View{}, err
		}
	}
	return v, nil
}

// Media returns the media of the pool, by uuid.
func (v View) Media() []Medium {
	var list []Medium
	for m := range v.inv.Media() {
		if m.Pool() == v.pool.Name {
			list = append(list, m)
		}
	}
	return list
}

// Status is what a medium of the pool is good for.
func (v View) Status(m Medium) Status {
	switch m.Status {
	case Full, Damaged, Retired:
		return m.Status
	}
	switch {
	case m.Set == nil:
		return Writable
	case m.Set.Pool != v.pool.Name:
		return Unknown
	case m.Set.Unassigned():
		return Writable
	case m.Set.UUID == v.set.UUID && m.UUID() == v.set.Last():
		return Writable
	}
	return Full
}

// Expired reports whether the data of a medium may be overwritten.
func (v View) Expired(m Medium, now time.Time) bool {
	return v.Status(m) == Full && now.Unix() >= v.inv.expires(m, v.pool, v.loc)
}

// Available reports whether a medium at a location can be loaded.
func (v View) Available(l Location) bool {
	switch l.Place {
	case Vault:
		return false
	case Online:
		return v.all || v.changer != "" && l.Name == v.changer
	}
	return v.all || v.changer == ""
}

// usable checks the current set. If there is an error, it must not be written to
// any more; if not, last reports whether its last medium can be.
func (v View) usable() (last bool, err error) {
	if err := v.set.Complete(); err != nil {
		return false, err
	}
	for i, id := range v.set.Members {
		m, err := v.inv.Find(id)
		if err != nil {
			return false, err
		}
		if m.Set.Key != v.pool.Key {
			return false, fmt.Errorf("the encryption key of the pool is another one now")
		}
		switch st := v.Status(m); {
		case st == Full:
		case st == Writable && i == len(v.set.Members)-1:
			if m.Location.Place == Vault {
				return false, fmt.Errorf("medium %s, which is next to be written, is in the vault %s", m.Label.Text, m.Location.Name)
			}
			last = v.Available(m.Location)
		default:
			return false, fmt.Errorf("medium %s is %s", m.Label.Text, st)
		}
	}
	return last, nil
}

// whyNew says why a backup begins a new media set, "" if it goes on with the
// current one.
func (v View) whyNew(now time.Time, forced bool) string {
	if forced {
		return "it was asked for"
	}
	if len(v.set.Members) == 0 {
		return "there is none yet"
	}
	if _, err := v.usable(); err != nil {
		return err.Error()
	}
	if v.pool.Allocation.always {
		return "the pool has a new one for every backup"
	}
	if start, ok := v.inv.Start(v.set.UUID); ok && v.pool.Allocation.due(start, now, v.loc) {
		return "the time of the pool for a new one has come"
	}
	return ""
}

// Next returns the medium that a backup would write to now. It locks and changes
// nothing: somebody else may take it first.
func (v View) Next(now time.Time) (Medium, error) {
	last, err := v.usable()
	if err != nil {
		return Medium{}, err
	}
	if last {
		return v.inv.Find(v.set.Last())
	}
	if c := v.candidates(now); len(c) > 0 {
		return c[0], nil
	}
	return Medium{}, v.noMedia()
}

func (v View) noMedia() error {
	where := "at hand"
	if v.changer != "" {
		where = "in the changer " + v.changer
	}
	return fmt.Errorf("pool %s: %w: none %s is empty or expired; label another one", v.pool.Name, ErrNoMedia, where)
}

// candidates are the media that can be added to the set, in the order in which
// they are tried: empty ones of the pool, expired ones, free ones.
func (v View) candidates(now time.Time) []Medium {
	var empty, expired, free []Medium
	for m := range v.inv.Media() {
		switch {
		case !v.Available(m.Location):
		case m.Pool() == "":
			if v.Status(m) == Writable {
				free = append(free, m)
			}
		case m.Pool() != v.pool.Name:
		case !m.InSet():
			if v.Status(m) == Writable {
				empty = append(empty, m)
			}
		case m.Set.UUID != v.set.UUID && v.Expired(m, now):
			expired = append(expired, m)
		}
	}
	byAge(empty, func(m Medium) int64 { return m.Label.Ctime })
	byAge(expired, func(m Medium) int64 { return m.Set.Ctime })
	byAge(free, func(m Medium) int64 { return m.Label.Ctime })
	return slices.Concat(empty, expired, free)
}

// byAge sorts the oldest to the front, and by label text among equals.
func byAge(list []Medium, age func(Medium) int64) {
	slices.SortFunc(list, func(a, b Medium) int {
		return cmp.Or(cmp.Compare(age(a), age(b)), cmp.Compare(a.Label.Text, b.Label.Text))
	})
}
