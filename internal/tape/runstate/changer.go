package runstate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/holdfast-backup/holdfast/internal/keystore"
	"github.com/holdfast-backup/holdfast/internal/tape"
)

// ErrFormat is wrapped when the state of a changer cannot be understood.
var ErrFormat = errors.New("not the state of a changer")

// element is the status of an element in JSON.
type element struct{ tape.Content }

type tagged struct {
	VolumeTag *string `json:"VolumeTag"`
}

// MarshalJSON implements json.Marshaler.
func (e element) MarshalJSON() ([]byte, error) {
	switch {
	case !e.Full:
		return []byte(`"Empty"`), nil
	case e.Label == "":
		return []byte(`"Full"`), nil
	}
	return json.Marshal(tagged{&e.Label})
}

// UnmarshalJSON implements json.Unmarshaler.
func (e *element) UnmarshalJSON(b []byte) error {
	var word string
	if json.Unmarshal(b, &word) == nil {
		switch word {
		case "Empty":
			*e = element{}
			return nil
		case "Full":
			*e = element{tape.Content{Full: true}}
			return nil
		}
		return fmt.Errorf("an element is %.40q", word)
	}
	var t tagged
	if err := json.Unmarshal(b, &t); err != nil {
		return err
	}
	if t.VolumeTag == nil {
		return errors.New("an element without status")
	}
	*e = element{tape.Content{Full: true, Label: *t.VolumeTag}}
	return nil
}

// The structures of PBS, with their keys in its order.
type (
	driveJSON struct {
		From    *int    `json:"loaded_slot"`
		Status  element `json:"status"`
		Serial  *string `json:"drive_serial_number"`
		Vendor  *string `json:"vendor"`
		Model   *string `json:"model"`
		Address uint16  `json:"element_address"`
	}
	slotJSON struct {
		ImportExport bool    `json:"import_export"`
		Status       element `json:"status"`
		Address      uint16  `json:"element_address"`
	}
	armJSON struct {
		Status  element `json:"status"`
		Address uint16  `json:"element_address"`
	}
	changerJSON struct {
		Drives     []driveJSON `json:"drives"`
		Slots      []slotJSON  `json:"slots"`
		Transports []armJSON   `json:"transports"`
	}
)

// SaveChanger keeps what a changer holds.
func (d Dir) SaveChanger(name string, st tape.ChangerStatus) error {
	path, err := d.file(changerDir, name)
	if err != nil {
		return err
	}
	js := changerJSON{make([]driveJSON, len(st.Drives)), make([]slotJSON, len(st.Slots)), make([]armJSON, len(st.Arms))}
	for i, e := range st.Drives {
		js.Drives[i] = driveJSON{Status: element{e.Content}, Serial: known(e.Serial), Vendor: known(e.Vendor), Model: known(e.Model)}
		if e.From > 0 {
			js.Drives[i].From = &e.From
		}
	}
	for i, e := range st.Slots {
		js.Slots[i] = slotJSON{ImportExport: e.ImportExport, Status: element{e.Content}}
	}
	for i, e := range st.Arms {
		js.Transports[i] = armJSON{Status: element{e}}
	}
	b, err := json.MarshalIndent(js, "", "  ")
	if err != nil {
		return err
	}
	return put(path, b)
}

// Changer returns what a changer held when it was last asked; ok is false if it was
// not.
func (d Dir) Changer(name string) (st tape.ChangerStatus, ok bool, err error) {
	path, err := d.file(changerDir, name)
	if err != nil {
		return st, false, err
	}
	b, err := keystore.Read(path, maxJSON)
	if errors.Is(err, fs.ErrNotExist) {
		return st, false, nil
	}
	if err != nil {
		return st, false, err
	}
	if st, err = parseChanger(b); err != nil {
		return st, false, fmt.Errorf("%s: %w", path, err)
	}
	return st, true, nil
}

// ForgetChanger removes what is known about a changer.
func (d Dir) ForgetChanger(name string) error {
	path, err := d.file(changerDir, name)
	if err != nil {
		return err
	}
	return gone(os.Remove(path))
}

func parseChanger(b []byte) (st tape.ChangerStatus, err error) {
	var js changerJSON
	if err := json.Unmarshal(b, &js); err != nil {
		return st, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	for _, e := range js.Drives {
		dr := tape.DriveElement{Content: e.Status.Content, Serial: text(e.Serial), Vendor: text(e.Vendor), Model: text(e.Model)}
		if e.From != nil {
			dr.From = *e.From
		}
		st.Drives = append(st.Drives, dr)
	}
	for _, e := range js.Slots {
		st.Slots = append(st.Slots, tape.Slot{Content: e.Status.Content, ImportExport: e.ImportExport})
	}
	for _, e := range js.Transports {
		st.Arms = append(st.Arms, e.Status.Content)
	}
	return st, nil
}

func known(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
