package media

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
)

// ErrIncomplete is wrapped when not all media of a set are in the inventory.
var ErrIncomplete = errors.New("not all media of the media set are known")

// MaxMembers is the largest number of media in a set that this program handles.
const MaxMembers = 4096

// Set is a media set: media that belong together, in their order.
type Set struct {
	UUID    uuid.UUID
	Members []uuid.UUID // zero: the medium with this number is not known
}

// Last is the last medium, zero if it is not known or there is none.
func (s Set) Last() uuid.UUID {
	if len(s.Members) == 0 {
		return uuid.Nil
	}
	return s.Members[len(s.Members)-1]
}

// Complete returns an error wrapping ErrIncomplete if a medium is not known.
func (s Set) Complete() error {
	if i := slices.Index(s.Members, uuid.Nil); i >= 0 {
		return fmt.Errorf("media set %s: %w: number %d is missing; read its label with an inventory update", s.UUID, ErrIncomplete, i+1)
	}
	return nil
}

// MediaSet returns the media of a set. It has none if the set is not known.
func (inv *Inventory) MediaSet(id uuid.UUID) (Set, error) {
	s := Set{UUID: id}
	for _, m := range inv.media {
		if !m.InSet() || m.Set.UUID != id {
			continue
		}
		n := m.Set.Seq
		if n >= MaxMembers {
			return Set{}, fmt.Errorf("media set %s: medium %s has number %d, and at most %d are possible", id, m.Label.Text, n, MaxMembers)
		}
		for uint64(len(s.Members)) <= n {
			s.Members = append(s.Members, uuid.Nil)
		}
		if s.Members[n] != uuid.Nil {
			return Set{}, fmt.Errorf("media set %s: %s and %s are both number %d; forget the one that is not", id, s.Members[n], m.UUID(), n+1)
		}
		s.Members[n] = m.UUID()
	}
	return s, nil
}

// MediaSets returns the uuids of all media sets, by uuid.
func (inv *Inventory) MediaSets() []uuid.UUID {
	var ids []uuid.UUID
	for _, m := range inv.media {
		if m.InSet() {
			ids = append(ids, m.Set.UUID)
		}
	}
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(ids)
}

// SetMedia returns the media of a set in their order, all of them.
func (inv *Inventory) SetMedia(id uuid.UUID) ([]Medium, error) {
	s, err := inv.MediaSet(id)
	if err != nil {
		return nil, err
	}
	if len(s.Members) == 0 {
		return nil, fmt.Errorf("media set %s: %w", id, ErrUnknownMedium)
	}
	if err := s.Complete(); err != nil {
		return nil, err
	}
	media := make([]Medium, len(s.Members))
	for i, id := range s.Members {
		if media[i], err = inv.Find(id); err != nil {
			return nil, err
		}
	}
	return media, nil
}

// SetPool returns the pool of a media set.
func (inv *Inventory) SetPool(id uuid.UUID) (string, error) {
	pool := ""
	for _, m := range inv.media {
		switch {
		case m.MediaSet() != id || !m.InSet():
		case pool != "" && m.Set.Pool != pool:
			return "", fmt.Errorf("media set %s is in the pools %s and %s", id, pool, m.Set.Pool)
		default:
			pool = m.Set.Pool
		}
	}
	if pool == "" {
		return "", fmt.Errorf("media set %s: %w", id, ErrUnknownMedium)
	}
	return pool, nil
}

// Start returns when a media set was begun: when its first medium was added.
func (inv *Inventory) Start(set uuid.UUID) (unix int64, ok bool) {
	for _, m := range inv.media {
		if m.InSet() && m.Set.UUID == set && m.Set.Seq == 0 {
			return m.Set.Ctime, true
		}
	}
	return 0, false
}

// Current returns the media set of a pool that had a medium added last. There is
// none if two sets share that moment.
func (inv *Inventory) Current(pool string) (set uuid.UUID, ok bool) {
	var last int64
	for _, m := range inv.media {
		if m.InSet() && m.Set.Pool == pool && (!ok || m.Set.Ctime > last) {
			set, last, ok = m.Set.UUID, m.Set.Ctime, true
		}
	}
	for _, m := range inv.media {
		if m.InSet() && m.Set.Pool == pool && m.Set.UUID != set && m.Set.Ctime >= last {
			return uuid.Nil, false
		}
	}
	return set, ok
}

// next returns when the next newer media set of the same pool was begun.
func (inv *Inventory) next(set uuid.UUID) (unix int64, ok bool) {
	i := slices.IndexFunc(inv.media, func(m Medium) bool { return m.InSet() && m.Set.UUID == set })
	if i < 0 {
		return 0, false
	}
	of := inv.media[i].Set
	for _, m := range inv.media {
		if !m.InSet() || m.Set.UUID == set || m.Set.Pool != of.Pool || m.Set.Ctime <= of.Ctime {
			continue
		}
		if !ok || m.Set.Ctime < unix {
			unix, ok = m.Set.Ctime, true
		}
	}
	return unix, ok
}
