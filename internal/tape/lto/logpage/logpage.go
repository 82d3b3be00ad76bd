package logpage

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/tape"
)

// Numbers of pages.
const (
	Activity = 0x11
	Alerts12 = 0x12 // reading it clears nothing
	Volume   = 0x17
	Alerts2E = 0x2e // reading it clears the flags
)

// param is one parameter.
type param struct {
	code  uint16
	value []byte
}

// number is the value as a number, false if it is none.
func (p param) number() (uint64, bool) {
	if len(p.value) == 0 || len(p.value) > 8 {
		return 0, false
	}
	var b [8]byte
	copy(b[8-len(p.value):], p.value)
	return binary.BigEndian.Uint64(b[:]), true
}

// parse cuts a page into its parameters.
func parse(b []byte, page uint8) ([]param, error) {
	if len(b) < 4 {
		return nil, errors.New("the log page has no head")
	}
	if got := b[0] & 0x3f; got != page {
		return nil, fmt.Errorf("log page %02x came for page %02x", got, page)
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if b = b[4:]; n > len(b) {
		return nil, fmt.Errorf("log page %02x has %d bytes, and %d came", page, n, len(b))
	}
	var all []param
	for b = b[:n]; len(b) > 0; {
		if len(b) < 4 || 4+int(b[3]) > len(b) {
			return nil, fmt.Errorf("log page %02x ends inside of a parameter", page)
		}
		k := 4 + int(b[3])
		all = append(all, param{binary.BigEndian.Uint16(b), b[4:k]})
		b = b[k:]
	}
	return all, nil
}

// ParseAlerts decodes page 12h or 2Eh.
func ParseAlerts(b []byte, page uint8) (tape.Alerts, error) {
	params, err := parse(b, page)
	if err != nil {
		return 0, err
	}
	var a tape.Alerts
	for _, p := range params {
		switch {
		case page == Alerts12 && p.code == 0 && len(p.value) == 8:
			for i := range 64 { // the top bit is flag 1
				if p.value[i/8]&(0x80>>(i%8)) != 0 {
					a |= 1 << i
				}
			}
			return a, nil
		case page == Alerts2E && p.code >= 1 && p.code <= 64 && len(p.value) > 0 && p.value[0]&1 != 0:
			a |= 1 << (p.code - 1)
		}
	}
	if page == Alerts12 {
		return 0, errors.New("log page 12 holds no flags")
	}
	return a, nil
}

// ParseActivity decodes page 11h.
func ParseActivity(b []byte) (Doing, error) {
	params, err := parse(b, Activity)
	if err != nil {
		return 0, err
	}
	for _, p := range params {
		if p.code == 0 && len(p.value) >= 4 {
			if p.value[0]&1 == 0 {
				return 0, errors.New("the drive does not know its own state at the moment")
			}
			return Doing(p.value[2]), nil
		}
	}
	return 0, errors.New("log page 11 does not say what the drive does")
}

// Doing is what a drive works on.
type Doing uint8

// What callers ask for.
const (
	Idle        Doing = 0
	Erasing     Doing = 0x09
	Formatting  Doing = 0x0a
	Calibrating Doing = 0x0b // it gets to know a new medium, which takes up to two hours
)

// String is the name that PBS has for it.
func (d Doing) String() string {
	names := [...]string{
		"no-activity", "cleaning", "loading", "unloading", "other", "reading", "writing", "locating", "rewinding", "erasing",
		"formatting", "calibrating", "other-dt", "microcode-update", "reading-encrypted", "writing-encrypted",
	}
	if int(d) < len(names) {
		return names[d]
	}
	return fmt.Sprintf("activity-%#02x", uint8(d))
}

// MarshalText makes it a word in JSON.
func (d Doing) MarshalText() ([]byte, error) { return []byte(d.String()), nil }
