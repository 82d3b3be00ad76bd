package media

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
	"github.com/holdfast-backup/holdfast/internal/keystore"
)

const (
	inventoryFile = "inventory.json"
	inventoryLock = ".inventory.lck"

	lockTime = 10 * time.Second // PBS waits as long
)

// State is the directory with the inventory and the catalogs. It has no state of
// its own and is safe for concurrent use.
type State struct {
	d   disk
	loc *time.Location // whose calendar counts
	// replaced is how long a log is replaced by a longer one at a commit.
	replaced int64
}

// Open returns the state in a directory, which is made if it is missing. loc is
// the place whose clock calendar events mean.
func Open(dir string, loc *time.Location) (*State, error) {
	if err := keystore.MakeDir(dir); err != nil {
		return nil, err
	}
	return &State{d: osDisk{dir}, loc: loc, replaced: maxReplaced}, nil
}

// Location is the place whose clock calendar events mean.
func (s *State) Location() *time.Location { return s.loc }

// Inventory loads the inventory.
func (s *State) Inventory() (*Inventory, error) {
	js, err := s.d.Read(inventoryFile)
	if errors.Is(err, fs.ErrNotExist) {
		return &Inventory{}, nil
	}
	if err != nil {
		return nil, err
	}
	return ParseInventory(js)
}

// change replaces the inventory, after which the change is durable.
func (s *State) change(ctx context.Context, edit func(*Inventory) error) (err error) {
	unlock, err := s.d.Lock(ctx, inventoryLock, lockTime)
	if err != nil {
		return fmt.Errorf("inventory of media: %w", err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	inv, err := s.Inventory()
	if err != nil {
		return err
	}
	if err := edit(inv); err != nil {
		return err
	}
	js, err := inv.JSON()
	if err != nil {
		return err
	}
	return s.d.Put(inventoryFile, js)
}

// Store takes the labels of a medium into the inventory. anew forgets that the
// medium was full, damaged or retired. A pool that was reserved for it stays
// reserved if set is nil.
func (s *State) Store(ctx context.Context, label tapefile.Label, set *tapefile.SetLabel, anew bool) error {
	return s.change(ctx, func(inv *Inventory) error {
		inv.store(label, set, anew)
		return nil
	})
}

// SetStatus gives a medium a status; "" lets it be computed.
func (s *State) SetStatus(ctx context.Context, id uuid.UUID, st Status) error {
	return s.change(ctx, func(inv *Inventory) error {
		return inv.change(id, func(m *Medium) { m.Status = st })
	})
}

// SetLocation says where a medium is.
func (s *State) SetLocation(ctx context.Context, id uuid.UUID, l Location) error {
	return s.change(ctx, func(inv *Inventory) error {
		return inv.change(id, func(m *Medium) { m.Location = l })
	})
}

// SetUsed says how many bytes are on a medium; nil: nobody knows.
func (s *State) SetUsed(ctx context.Context, id uuid.UUID, used *int64) error {
	return s.change(ctx, func(inv *Inventory) error {
		return inv.change(id, func(m *Medium) { m.Used = used })
	})
}

// Forget removes a medium with its catalog. What is on it stays on it.
func (s *State) Forget(ctx context.Context, id uuid.UUID) error {
	if err := s.change(ctx, func(inv *Inventory) error {
		inv.forget(id)
		return nil
	}); err != nil {
		return err
	}
	return s.removeCatalog(id)
}

// UpdateOnline tells the inventory what changers hold: the label texts of their
// drives and slots, but for those slots that people take media out of. A changer
// that could not be asked has a nil list, and media stay where they were; one that
// is missing in the map is not there any more.
func (s *State) UpdateOnline(ctx context.Context, changers map[string][]string) error {
	return s.change(ctx, func(inv *Inventory) error {
		inv.updateOnline(changers)
		return nil
	})
}

func (inv *Inventory) updateOnline(changers map[string][]string) {
	in := map[uuid.UUID]string{}
	for name, texts := range changers {
		for _, text := range texts {
			if m, err := inv.FindLabel(text); err == nil { // of two nobody knows which it is
				in[m.UUID()] = name
			}
		}
	}
	for i := range inv.media {
		m := &inv.media[i]
		if name, ok := in[m.UUID()]; ok {
			m.Location = Location{Online, name}
			continue
		}
		if m.Location.Place != Online {
			continue
		}
		if texts, ok := changers[m.Location.Name]; !ok || texts != nil {
			m.Location = Location{Place: Offline}
		}
	}
}
