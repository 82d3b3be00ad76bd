package logpage

import (
	"bytes"
	"errors"
	"strings"
)

// Statistics is what a drive knows of the loaded medium (page 17h). Sizes are
// in bytes; the fields are those of PBS.
type Statistics struct {
	Mounts                      uint64 `json:"volume-mounts"`
	DatasetsWritten             uint64 `json:"volume-datasets-written"`
	RecoveredWriteErrors        uint64 `json:"volume-recovered-write-data-errors"`
	UnrecoveredWriteErrors      uint64 `json:"volume-unrecovered-write-data-errors"`
	WriteServoErrors            uint64 `json:"volume-write-servo-errors"`
	UnrecoveredWriteServoErrors uint64 `json:"volume-unrecovered-write-servo-errors"`
	DatasetsRead                uint64 `json:"volume-datasets-read"`
	RecoveredReadErrors         uint64 `json:"volume-recovered-read-errors"`
	UnrecoveredReadErrors       uint64 `json:"volume-unrecovered-read-errors"`
	LastUnrecoveredWriteErrors  uint64 `json:"last-mount-unrecovered-write-errors"`
	LastUnrecoveredReadErrors   uint64 `json:"last-mount-unrecovered-read-errors"`
	LastWritten                 uint64 `json:"last-mount-bytes-written"`
	LastRead                    uint64 `json:"last-mount-bytes-read"`
	Written                     uint64 `json:"lifetime-bytes-written"`
	Read                        uint64 `json:"lifetime-bytes-read"`
	WriteRatio                  uint64 `json:"last-load-write-compression-ratio"` // times 100
	ReadRatio                   uint64 `json:"last-load-read-compression-ratio"`
	MountTime                   uint64 `json:"medium-mount-time"`
	ReadyTime                   uint64 `json:"medium-ready-time"`
	Capacity                    uint64 `json:"total-native-capacity"`
	Used                        uint64 `json:"total-used-native-capacity"`
	WriteProtect                bool   `json:"write-protect"`
	WORM                        bool   `json:"worm"`
	BeginningPasses             uint64 `json:"beginning-of-medium-passes"`
	MiddlePasses                uint64 `json:"middle-of-tape-passes"`
	Serial                      string `json:"serial"`
}

// life is how many passes of the head a tape is made for.
const life = 16000

// Passes is how often the head passed over the most worn part of the tape.
func (s Statistics) Passes() uint64 { return max(s.BeginningPasses, s.MiddlePasses) }

// Wearout is how much of the tape's life is gone: 1 is all of it.
func (s Statistics) Wearout() float64 { return float64(s.Passes()) / life }

// MB is the unit of sizes on the page, in bytes.
const MB = 1_000_000

// ErrNotValid is a page whose values count for nothing, as without a medium.
var ErrNotValid = errors.New("the drive has no statistics of a volume")

// ParseVolume decodes page 17h.
func ParseVolume(b []byte) (Statistics, error) {
	params, err := parse(b, Volume)
	if err != nil {
		return Statistics{}, err
	}
	var s Statistics
	fields := map[uint16]*uint64{
		0x0001: &s.Mounts, 0x0002: &s.DatasetsWritten, 0x0003: &s.RecoveredWriteErrors, 0x0004: &s.UnrecoveredWriteErrors,
		0x0005: &s.WriteServoErrors, 0x0006: &s.UnrecoveredWriteServoErrors, 0x0007: &s.DatasetsRead,
		0x0008: &s.RecoveredReadErrors, 0x0009: &s.UnrecoveredReadErrors,
		0x000c: &s.LastUnrecoveredWriteErrors, 0x000d: &s.LastUnrecoveredReadErrors,
		0x0012: &s.WriteRatio, 0x0013: &s.ReadRatio, 0x0014: &s.MountTime, 0x0015: &s.ReadyTime,
		0x0101: &s.BeginningPasses, 0x0102: &s.MiddlePasses,
	}
	sizes := map[uint16]*uint64{
		0x000e: &s.LastWritten, 0x000f: &s.LastRead, 0x0010: &s.Written, 0x0011: &s.Read, 0x0016: &s.Capacity, 0x0017: &s.Used,
	}
	valid := false
	for _, p := range params {
		n, isNumber := p.number()
		switch {
		case p.code == 0x0000:
			valid = isNumber && n != 0
		case p.code == 0x0040:
			text, _, _ := bytes.Cut(p.value, []byte{0})
			s.Serial = strings.TrimSpace(strings.ToValidUTF8(string(text), "?"))
		case p.code == 0x0080:
			s.WriteProtect = isNumber && n != 0
		case p.code == 0x0081:
			s.WORM = isNumber && n != 0
		case !isNumber:
		case fields[p.code] != nil:
			*fields[p.code] = n
		case sizes[p.code] != nil && n <= 1<<40: // more is a value that the drive does not know, all bits set
			*sizes[p.code] = n * MB
		}
	}
	if !valid {
		return Statistics{}, ErrNotValid
	}
	return s, nil
}
