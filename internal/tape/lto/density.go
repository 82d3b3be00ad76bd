package lto

import "fmt"

// Density is the code of the format of a medium; 0 is no medium.
type Density uint8

// String is the name that PBS has; of codes that nobody knows it is the number.
func (d Density) String() string {
	switch d {
	case 0x00:
		return "Unknown"
	case 0x40:
		return "LTO1"
	case 0x42:
		return "LTO2"
	case 0x44:
		return "LTO3"
	case 0x46:
		return "LTO4"
	case 0x58:
		return "LTO5"
	case 0x5a:
		return "LTO6"
	case 0x5c:
		return "LTO7"
	case 0x5d:
		return "LTO7M8"
	case 0x5e:
		return "LTO8"
	case 0x60:
		return "LTO9"
	case 0x62, 0x63: // 30 TB and 40 TB
		return "LTO10"
	}
	return fmt.Sprintf("%#02x", uint8(d))
}

// MarshalText makes it a word in JSON.
func (d Density) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// formats reports whether FORMAT MEDIUM is the way to make such a medium empty.
// From LTO-9 on it has the drive get to know the medium again, which takes up to
// two hours; so it is not the fast way.
func (d Density) formats(fast bool) bool {
	switch d {
	case 0x58, 0x5a, 0x5c, 0x5d, 0x5e:
		return true
	case 0x60, 0x62, 0x63:
		return !fast
	}
	return false
}
