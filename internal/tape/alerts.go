package tape

import (
	"fmt"
	"math/bits"
	"strings"
)

// Alerts are TapeAlert flags (SSC-4, annex A): bit n-1 is flag n, 1 to 64.
type Alerts uint64

// Has reports whether flag n is set.
func (a Alerts) Has(n int) bool { return n >= 1 && n <= 64 && a&(1<<(n-1)) != 0 }

// Alert describes one flag.
type Alert struct {
	Number   int    `json:"number"`
	Name     string `json:"name"`    // as PBS calls it
	Meaning  string `json:"meaning"` // a sentence for people
	Critical bool   `json:"critical"`
}

// critical are the flags after which a medium or a drive is not to be trusted
// with a backup.
const critical Alerts = 1<<(0x04-1) | 1<<(0x05-1) | 1<<(0x06-1) | 1<<(0x09-1) | 1<<(0x0e-1) | 1<<(0x10-1) |
	1<<(0x16-1) | 1<<(0x17-1) | 1<<(0x1e-1) | 1<<(0x1f-1) | 1<<(0x21-1) | 1<<(0x26-1) | 1<<(0x29-1) |
	1<<(0x2d-1) | 1<<(0x34-1) | 1<<(0x35-1) | 1<<(0x36-1) | 1<<(0x37-1) | 1<<(0x38-1) | 1<<(0x39-1)

// Critical are those of the flags after which a medium or a drive is not to be
// trusted with a backup.
func (a Alerts) Critical() Alerts { return a & critical }

// List describes the flags that are set, the lowest first.
func (a Alerts) List() []Alert {
	var list []Alert
	for rest := a; rest != 0; rest &= rest - 1 {
		n := bits.TrailingZeros64(uint64(rest)) + 1
		w, ok := alertWords[n]
		if !ok {
			w.name, w.meaning = fmt.Sprintf("FLAG_%d", n), "The device reports a flag of which the standard says nothing."
		}
		list = append(list, Alert{n, w.name, w.meaning, critical.Has(n)})
	}
	return list
}

// String is the names of the flags, as PBS prints them.
func (a Alerts) String() string {
	if a == 0 {
		return "(empty)"
	}
	var names []string
	for _, x := range a.List() {
		names = append(names, x.Name)
	}
	return strings.Join(names, " | ")
}

// alertWords are the names of PBS, and what the standard means by them.
var alertWords = map[int]struct{ name, meaning string }{
	0x01: {"READ_WARNING", "The drive has trouble reading."},
	0x02: {"WRITE_WARNING", "The drive has trouble writing."},
	0x03: {"HARD_ERROR", "A read or write error could not be corrected."},
	0x04: {"MEDIA", "The medium is faulty: copy what is on it and do not use it again."},
	0x05: {"READ_FAILURE", "The medium or the drive can no longer be read from."},
	0x06: {"WRITE_FAILURE", "The medium or the drive can no longer be written to."},
	0x07: {"MEDIA_LIFE", "The medium has reached the end of its life."},
	0x08: {"NOT_DATA_GRADE", "The medium is not made for data."},
	0x09: {"WRITE_PROTECT", "The medium is write protected."},
	0x0a: {"NO_REMOVAL", "The medium cannot be taken out while the drive is used."},
	0x0b: {"CLEANING_MEDIA", "A cleaning cartridge is in the drive."},
	0x0c: {"UNSUPPORTED_FORMAT", "The drive does not know the format of the medium."},
	0x0d: {"RECOVERABLE_MECHANICAL_CARTRIDGE_FAILURE", "The tape in the cartridge is broken; it can be taken out."},
	0x0e: {"UNRECOVERABLE_MECHANICAL_CARTRIDGE_FAILURE", "The tape in the cartridge is broken; it cannot be taken out."},
	0x0f: {"MEMORY_CHIP_IN_CARTRIDGE_FAILURE", "The memory chip of the cartridge is faulty."},
	0x10: {"FORCED_EJECT", "The medium was taken out by force while the drive worked."},
	0x11: {"READ_ONLY_FORMAT", "The drive can read this format and cannot write it."},
	0x12: {"TAPE_DIRECTORY_CORRUPTED", "The directory of the tape is damaged: searching is slow until it was read in full."},
	0x13: {"NEARING_MEDIA_LIFE", "The medium comes near the end of its life."},
	0x14: {"CLEAN_NOW", "The drive has to be cleaned now."},
	0x15: {"CLEAN_PERIODIC", "The drive should be cleaned soon."},
	0x16: {"EXPIRED_CLEANING_MEDIA", "The cleaning cartridge is used up."},
	0x17: {"INVALID_CLEANING_TAPE", "The cleaning cartridge does not fit this drive."},
	0x18: {"RETENSION_REQUESTED", "The tape should be wound from end to end."},
	0x19: {"HOST_CHANNEL_FAILURE", "The connection between host and drive is faulty."},
	0x1a: {"COOLING_FAN_FAILURE", "A fan in the drive has failed."},
	0x1b: {"POWER_SUPPLY_FAILURE", "A power supply has failed."},
	0x1c: {"POWER_CONSUMPTION", "The drive takes more power than it should."},
	0x1d: {"DRIVE_MAINTENANCE", "The drive is due for maintenance."},
	0x1e: {"HARDWARE_A", "The drive is faulty: it has to be reset."},
	0x1f: {"HARDWARE_B", "The drive has failed its own test."},
	0x20: {"INTERFACE", "The drive has trouble with its connection to the host."},
	0x21: {"EJECT_MEDIA", "The medium has to be taken out and put in again."},
	0x22: {"DOWNLOAD_FAULT", "New firmware could not be loaded."},
	0x23: {"DRIVE_HUMIDITY", "The air is too humid or too dry."},
	0x24: {"DRIVE_TEMPERATURE", "The drive is too hot or too cold."},
	0x25: {"DRIVE_VOLTAGE", "The voltage of the supply is out of its limits."},
	0x26: {"PREDICTIVE_FAILURE", "The drive expects to fail soon."},
	0x27: {"DIAGNOSTICS_REQUIRED", "The drive should run its diagnostics."},
	0x29: {"LOADER_STRAY_TAPE", "A tape was left in the loader."},
	0x2a: {"LOADER_HARDWARE", "The loader is faulty."},
	0x2d: {"LOADER_MAGAZINE", "The magazine of the loader cannot be used."},
	0x31: {"DIMINISHED_NATIVE_CAPACITY", "The medium holds less than it should."},
	0x32: {"LOST_STATISTICS", "Statistics of the medium were lost."},
	0x33: {"TAPE_DIRECTORY_INVALID_AT_UNLOAD", "The directory of the tape was not written at the end: searching will be slow."},
	0x34: {"TAPE_SYSTEM_AREA_WRITE_FAILURE", "The system area of the tape could not be written."},
	0x35: {"TAPE_SYSTEM_AREA_READ_FAILURE", "The system area of the tape could not be read."},
	0x36: {"NO_START_OF_DATA", "The beginning of the data was not found on the tape."},
	0x37: {"LOADING_FAILURE", "The tape could not be loaded."},
	0x38: {"UNRECOVERABLE_UNLOAD_FAILURE", "The tape cannot be unloaded."},
	0x39: {"AUTOMATION_INTERFACE_FAILURE", "The connection between drive and library is faulty."},
	0x3a: {"FIRMWARE_FAILURE", "The firmware of the drive has met a fault."},
	0x3b: {"WORM_INTEGRITY_CHECK_FAILED", "The drive doubts that nothing was changed on this WORM medium."},
	0x3c: {"WORM_OVERWRITE_ATTEMPTED", "Somebody tried to overwrite data on a WORM medium."},
	0x3d: {"ENCRYPTION_POLICY_VIOLATION", "A command broke the rules of encryption of this drive."},
}
