package vtl

import (
	"encoding/json"
	"fmt"
	"regexp"
	"time"

	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/cartridge"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/changer"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/drive"
)

// Config is what a library is made of.
type Config struct {
	Drives  []Drive `json:"drives"`
	Changer Changer `json:"changer"`
}

// Drive describes a drive.
type Drive struct {
	Generation int          `json:"generation"`         // 4 to 10
	Serial     string       `json:"serial"`             // up to 10 characters
	HP         bool         `json:"hp,omitempty"`       // it plays one of HP; otherwise of IBM
	Revision   string       `json:"revision,omitempty"` // of its firmware
	Quirks     drive.Quirks `json:"quirks,omitzero"`
	Times      DriveTimes   `json:"times,omitzero"`
}

// DriveTimes are how long things take. Zero is at once.
type DriveTimes struct {
	Load   Duration `json:"load,omitempty"`
	Unload Duration `json:"unload,omitempty"`
	Wind   Duration `json:"wind,omitempty"`
	Erase  Duration `json:"erase,omitempty"`
	Format Duration `json:"format,omitempty"`
	Clean  Duration `json:"clean,omitempty"`
}

// Changer describes the changer. Without slots there is none: a person puts
// cartridges into the drives.
type Changer struct {
	Vendor       string         `json:"vendor,omitempty"`
	Product      string         `json:"product,omitempty"`
	Revision     string         `json:"revision,omitempty"`
	Serial       string         `json:"serial,omitempty"`
	Slots        int            `json:"slots"`
	ImportExport int            `json:"import-export,omitempty"`
	Quirks       changer.Quirks `json:"quirks,omitzero"`
	Move         Duration       `json:"move,omitempty"`      // how long a move takes
	Inventory    Duration       `json:"inventory,omitempty"` // and looking at all elements
}

// Duration is a time in JSON as "1m30s".
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err == nil && v < 0 {
		err = fmt.Errorf("a time of %s", v)
	}
	*d = Duration(v)
	return err
}

// Default is a library with some drives of a generation, and slots.
func Default(generation, drives, slots int) Config {
	cfg := Config{Changer: Changer{Serial: "HFCHANGER1", Slots: slots}}
	if slots > 0 {
		cfg.Changer.ImportExport = 2
	}
	for n := range drives {
		cfg.Drives = append(cfg.Drives, Drive{Generation: generation, Serial: fmt.Sprintf("HFDRIVE%03d", n+1)})
	}
	return cfg
}

// check looks at what the units do not.
func (c *Config) check() error {
	if len(c.Drives) == 0 || len(c.Drives) > changer.MaxDrives {
		return fmt.Errorf("a library with %d drives: there can be 1 to %d", len(c.Drives), changer.MaxDrives)
	}
	serials := map[string]bool{}
	if c.Changer.Slots > 0 {
		serials[c.Changer.Serial] = true
	}
	for _, d := range c.Drives {
		if serials[d.Serial] {
			return fmt.Errorf("two units with the serial number %q", d.Serial)
		}
		serials[d.Serial] = true
	}
	return nil
}

func parseConfig(b []byte) (c Config, err error) {
	if err := json.Unmarshal(b, &c); err != nil {
		return c, err
	}
	return c, c.check()
}

// Cartridge describes a new cartridge.
type Cartridge struct {
	// Barcode is also its name in the library: up to 32 letters, digits and "_-.".
	Barcode string
	// NoLabel cartridges have a name and no barcode that a changer could read.
	NoLabel bool
	// Density is what it is made for. 0: as the last two characters of the
	// barcode say.
	Density      cartridge.Density
	Capacity     int64 // bytes; 0: that of the density
	EarlyWarning int64 // length of the zone before the end in bytes; 0: a hundredth, within 8 MiB and 4 GiB
	WORM         bool
	WriteProtect bool
	// Uses makes it a cleaning cartridge, which is good for so many times. One whose
	// barcode begins with CLN is good for 50 by default.
	Uses int
}

var goodName = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,31}$`)

// memory is what its chip holds at first.
func (c Cartridge) memory(serial string, now time.Time) (m cartridge.Memory, err error) {
	if !goodName.MatchString(c.Barcode) {
		return m, fmt.Errorf("%q cannot be a barcode: up to 32 letters, digits and _-. are possible", c.Barcode)
	}
	m = cartridge.Memory{
		Barcode: c.Barcode, Serial: serial, Density: c.Density, Capacity: c.Capacity, EarlyWarning: c.EarlyWarning,
		Manufactured: now.Format("20060102"), WORM: c.WORM, WriteProtect: c.WriteProtect, Uses: c.Uses,
	}
	if c.NoLabel {
		m.Barcode = ""
	}
	cleans := len(c.Barcode) > 3 && c.Barcode[:3] == "CLN"
	m.Cleaning = cleans || c.Uses > 0
	if cleans && m.Uses == 0 {
		m.Uses = 50
	}
	if m.Density == 0 {
		d, worm, known := ofSuffix(c.Barcode)
		switch {
		case known:
			m.Density, m.WORM = d, m.WORM || worm
		case m.Cleaning:
			m.Density = cartridge.LTO4 // all drives take it
		default:
			return m, fmt.Errorf("cartridge %s: the barcode does not end in a generation, as L8 does, and none is given", c.Barcode)
		}
	}
	if m.Capacity == 0 {
		f, _ := m.Density.Format()
		m.Capacity = f.Capacity * 1_000_000
	}
	if m.EarlyWarning == 0 {
		m.EarlyWarning = min(max(m.Capacity/100, 8<<20), 4<<30, m.Capacity/4)
	}
	return m, nil
}

// ofSuffix knows the media identifiers at the end of barcodes.
func ofSuffix(barcode string) (d cartridge.Density, worm, known bool) {
	if len(barcode) < 2 {
		return 0, false, false
	}
	switch barcode[len(barcode)-2:] {
	case "L3":
		return cartridge.LTO3, false, true
	case "LT":
		return cartridge.LTO3, true, true
	case "L4":
		return cartridge.LTO4, false, true
	case "LU":
		return cartridge.LTO4, true, true
	case "L5":
		return cartridge.LTO5, false, true
	case "LV":
		return cartridge.LTO5, true, true
	case "L6":
		return cartridge.LTO6, false, true
	case "LW":
		return cartridge.LTO6, true, true
	case "L7":
		return cartridge.LTO7, false, true
	case "LX":
		return cartridge.LTO7, true, true
	case "M8":
		return cartridge.LTO7M8, false, true
	case "L8":
		return cartridge.LTO8, false, true
	case "LY":
		return cartridge.LTO8, true, true
	case "L9":
		return cartridge.LTO9, false, true
	case "LZ":
		return cartridge.LTO9, true, true
	case "LA":
		return cartridge.LTO10, false, true
	case "PA":
		return cartridge.LTO10H, false, true
	}
	return 0, false, false
}
