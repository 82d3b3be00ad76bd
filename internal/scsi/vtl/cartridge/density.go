package cartridge

import "fmt"

// Density is the density code of a format.
type Density uint8

// The formats.
const (
	LTO3   Density = 0x44
	LTO4   Density = 0x46
	LTO5   Density = 0x58
	LTO6   Density = 0x5a
	LTO7   Density = 0x5c
	LTO7M8 Density = 0x5d
	LTO8   Density = 0x5e
	LTO9   Density = 0x60
	LTO10  Density = 0x62 // 30 TB
	LTO10H Density = 0x63 // 40 TB
)

// Format is what a density means.
type Format struct {
	Density    Density
	Name       string // as "LTO-8"
	Short      string // as "U-816", what drives call it
	Generation int    // of the drive that made it first
	Capacity   int64  // MB, native
	Tracks     int
	BitsPerMM  int
	Meters     int
}

// Formats lists the formats, the oldest first. Densities of bits and tracks are those
// of the LTO consortium; the 40 TB format differs from the 30 TB one in its length.
func Formats() []Format {
	return []Format{
		{LTO3, "LTO-3", "U-316", 3, 400_000, 704, 9638, 680},
		{LTO4, "LTO-4", "U-416", 4, 800_000, 896, 12725, 820},
		{LTO5, "LTO-5", "U-516", 5, 1_500_000, 1280, 15142, 846},
		{LTO6, "LTO-6", "U-616", 6, 2_500_000, 2176, 15143, 846},
		{LTO7, "LTO-7", "U-732", 7, 6_000_000, 3584, 19107, 960},
		{LTO7M8, "LTO-7-M8", "U-M832", 8, 9_000_000, 5376, 19107, 960},
		{LTO8, "LTO-8", "U-832", 8, 12_000_000, 6656, 20668, 960},
		{LTO9, "LTO-9", "U-932", 9, 18_000_000, 8960, 21575, 1035},
		{LTO10, "LTO-10", "U-1032", 10, 30_000_000, 15104, 21575, 1035},
		{LTO10H, "LTO-10-40T", "U-1032H", 10, 40_000_000, 15104, 21575, 1380},
	}
}

// Format describes the density; false if it is not known.
func (d Density) Format() (Format, bool) {
	for _, f := range Formats() {
		if f.Density == d {
			return f, true
		}
	}
	return Format{}, false
}

// String is the name of the format.
func (d Density) String() string {
	if f, ok := d.Format(); ok {
		return f.Name
	}
	return fmt.Sprintf("density %#02x", uint8(d))
}

// ParseDensity reads a name that String prints.
func ParseDensity(s string) (Density, error) {
	for _, f := range Formats() {
		if f.Name == s {
			return f.Density, nil
		}
	}
	return 0, fmt.Errorf("%q is no format of tapes", s)
}

// MarshalText implements encoding.TextMarshaler. 0 is no text.
func (d Density) MarshalText() ([]byte, error) {
	if d == 0 {
		return nil, nil
	}
	return []byte(d.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Density) UnmarshalText(b []byte) (err error) {
	*d = 0
	if len(b) > 0 {
		*d, err = ParseDensity(string(b))
	}
	return err
}
