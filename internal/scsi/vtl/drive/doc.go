// Package drive is an emulated LTO tape drive: a target.Unit that carries out the
// commands of SSC on a cartridge.
//
// # The medium
//
// A cartridge comes by [Drive.Insert] and goes by [Drive.Remove], as by the hand of a
// changer. Between the two it is threaded or not: UNLOAD and LOAD change that.
// Threading takes its time, with 2/04/01 until it is done and a unit attention
// 6/28/00 then. A cartridge that does not fit the drive's generation stays
// unthreaded, with 2/30/00 and a TapeAlert; one that cleans gives 2/30/03 and is
// used up a little.
//
// # Data
//
// A write is in the buffer until a filemark without IMMED, a motion, or much more
// data. What the medium refuses when it is flushed without being asked for is told
// as a deferred error, to the next command, which is not carried out. [Drive.PowerCut]
// loses what is in the buffer.
//
// Every write in the early warning zone says 0/00/02 with EOM, after it was done; the
// first one in the programmable zone before it says 0/00/07. What does not fit into the
// capacity is not written: D/00/02.
//
// # Commands
//
// One command runs at a time. A long one sleeps on the clock for as long as [Times]
// says; meanwhile INQUIRY, REPORT LUNS and LOG SENSE of page 11 (the activity) are
// answered. With IMMED a long command ends at once, and those that follow wait for it
// or say 2/04/xx.
//
// Drives of generation 4 know neither FORMAT MEDIUM nor log page 17 nor the 10-byte
// MODE commands. LOCATE by file differs between makers: see [Quirks].
//
// # Source
//
// SSC-4 and SPC-4; for what the standard leaves open, what LTO drives do.
package drive

import "time"

// Config describes a drive.
type Config struct {
	Generation int    // 4 to 10
	Serial     string // up to 10 characters
	HP         bool   // it plays one of HP; otherwise of IBM
	Revision   string // of the firmware; "" is a default
	Quirks     Quirks
	Times      Times
	Clock      Clock // nil: the real one
}

// Quirks are habits of some drives.
type Quirks struct {
	// Padded answers have the length that the host had room for.
	Padded bool `json:"padded,omitempty"`
	// ManualLoad drives thread a cartridge only when told to.
	ManualLoad bool `json:"manual-load,omitempty"`
	// NoLocateFile drives refuse LOCATE by file.
	NoLocateFile bool `json:"no-locate-file,omitempty"`
	// NoEncryption drives do not know the commands for it.
	NoEncryption bool `json:"no-encryption,omitempty"`
}

// Times are how long things take. Zero is at once.
type Times struct {
	Load, Unload time.Duration
	Wind         time.Duration // from one end to the other
	Erase        time.Duration // of a whole medium
	Format       time.Duration
	Clean        time.Duration
}

// Clock is the time that a drive lives in.
type Clock interface {
	Now() time.Time
	Sleep(d time.Duration)
}

type realClock struct{}

func (realClock) Now() time.Time        { return time.Now() }
func (realClock) Sleep(d time.Duration) { time.Sleep(d) }
