package media

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/format/canonjson"
	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
)

var (
	// ErrUnknownMedium is wrapped for a medium that is not in the inventory.
	ErrUnknownMedium = errors.New("no such medium in the inventory")
	// ErrAmbiguous is wrapped when several media have the same label text.
	ErrAmbiguous = errors.New("several media have this label text")
	// ErrInventory is wrapped when the inventory cannot be understood.
	ErrInventory = errors.New("damaged inventory of media")
)

// Inventory is the media that were known at a moment. It is a value: it does no
// input and output.
type Inventory struct {
	media []Medium // sorted by uuid
}

// entry is a medium as it is stored.
type entry struct {
	ID struct {
		Label *tapefile.Label    `json:"label"`
		Set   *tapefile.SetLabel `json:"media_set_label,omitempty"`
	} `json:"id"`
	Location *string `json:"location,omitempty"`
	Status   *Status `json:"status,omitempty"`
	Used     *int64  `json:"bytes_used,omitempty"`
}

// ParseInventory reads inventory.json.
func ParseInventory(js []byte) (*Inventory, error) {
	var list []entry
	if err := json.Unmarshal(js, &list); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInventory, err)
	}
	inv := &Inventory{}
	for _, e := range list {
		if e.ID.Label == nil {
			return nil, fmt.Errorf("%w: a medium without label", ErrInventory)
		}
		m := Medium{Label: *e.ID.Label, Set: e.ID.Set, Used: e.Used}
		if e.Location != nil {
			var err error
			if m.Location, err = ParseLocation(*e.Location); err != nil {
				return nil, fmt.Errorf("%w: medium %s: %w", ErrInventory, m.Label.Text, err)
			}
		}
		if e.Status != nil {
			m.Status = *e.Status
		}
		inv.put(m) // of two with the same uuid the last counts
	}
	return inv, nil
}

// JSON is the content of inventory.json.
func (inv *Inventory) JSON() ([]byte, error) {
	list := make([]entry, len(inv.media))
	for i, m := range inv.media {
		e := entry{Used: m.Used}
		e.ID.Label, e.ID.Set = &m.Label, m.Set
		if m.Location.Place != NotStored {
			s := m.Location.String()
			e.Location = &s
		}
		if m.Status != "" {
			e.Status = &m.Status
		}
		list[i] = e
	}
	js, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	tree, err := canonjson.Parse(js)
	if err != nil {
		return nil, err
	}
	return canonjson.AppendIndent(nil, tree)
}

// Media yields all media, by uuid.
func (inv *Inventory) Media() iter.Seq[Medium] { return slices.Values(inv.media) }

// Find returns a medium.
func (inv *Inventory) Find(id uuid.UUID) (Medium, error) {
	i, ok := inv.at(id)
	if !ok {
		return Medium{}, fmt.Errorf("%s: %w", id, ErrUnknownMedium)
	}
	return inv.media[i], nil
}

// FindLabel returns the medium with a label text.
func (inv *Inventory) FindLabel(text string) (Medium, error) {
	var found []Medium
	for _, m := range inv.media {
		if m.Label.Text == text {
			found = append(found, m)
		}
	}
	switch len(found) {
	case 0:
		return Medium{}, fmt.Errorf("%.40q: %w", text, ErrUnknownMedium)
	case 1:
		return found[0], nil
	}
	return Medium{}, fmt.Errorf("%.40q: %w: %s and %s; forget the one that is gone", text, ErrAmbiguous, found[0].UUID(), found[1].UUID())
}

func (inv *Inventory) at(id uuid.UUID) (int, bool) {
	return slices.BinarySearchFunc(inv.media, id, func(m Medium, id uuid.UUID) int {
		return bytes.Compare(m.Label.UUID[:], id[:])
	})
}

func (inv *Inventory) put(m Medium) {
	i, ok := inv.at(m.UUID())
	if ok {
		inv.media[i] = m
	} else {
		inv.media = slices.Insert(inv.media, i, m)
	}
}

// store takes what is on a medium into the inventory. What is known beside that
// stays, except the status when the medium starts anew.
func (inv *Inventory) store(label tapefile.Label, set *tapefile.SetLabel, anew bool) {
	m := Medium{Label: label, Set: set}
	if i, ok := inv.at(label.UUID); ok {
		old := inv.media[i]
		if set == nil && old.Set != nil && old.Set.Unassigned() {
			m.Set = old.Set // a pool that was given to it and is not on it yet
		}
		m.Location, m.Used = old.Location, old.Used
		if !anew {
			m.Status = old.Status
		}
	}
	inv.put(m)
}

func (inv *Inventory) forget(id uuid.UUID) {
	if i, ok := inv.at(id); ok {
		inv.media = slices.Delete(inv.media, i, i+1)
	}
}

// change edits one medium.
func (inv *Inventory) change(id uuid.UUID, edit func(*Medium)) error {
	i, ok := inv.at(id)
	if !ok {
		return fmt.Errorf("%s: %w", id, ErrUnknownMedium)
	}
	edit(&inv.media[i])
	return nil
}
