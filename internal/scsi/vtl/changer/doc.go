// Package changer is an emulated medium changer: a target.Unit that carries out the
// commands of SMC on drives, slots and an import and export station.
//
// # Elements
//
//	address  element
//	0        the transport
//	10...    import and export
//	500...   data transfer: the drives
//	1000...  storage
//
// An element holds nothing or a [Medium]. The changer moves media in memory and
// asks its [Vault] to put them into drives, to take them out, and to note where
// everything is before a move is said to be done: after a crash every medium is
// where it was or where it went.
//
// # Commands
//
// One command runs at a time. INITIALIZE ELEMENT STATUS and MOVE MEDIUM sleep on
// the clock for as long as [Times] says; INQUIRY and REPORT LUNS are answered
// meanwhile.
//
// A medium that is threaded in a drive is taken out by MOVE MEDIUM, as most libraries do;
// see [Quirks] for the others. One that the drive was told to hold back stays: 5/53/02.
//
// # Source
//
// SMC-3 and SPC-4, and for the quirks what the drivers of other programs provide for.
package changer

import "time"

// Config describes a changer.
type Config struct {
	Vendor, Product, Revision string // "" is a default
	Serial                    string // up to 10 characters
	Slots, ImportExport       int
	Drives                    []Drive
	Quirks                    Quirks
	Times                     Times
	Clock                     Clock // nil: the real one
}

// Quirks are habits of some changers.
type Quirks struct {
	// Padded answers have the length that the host had room for.
	Padded bool `json:"padded,omitempty"`
	// NoTagWithID changers refuse tags and drives' identities in one query.
	NoTagWithID bool `json:"no-tag-with-id,omitempty"`
	// NoID changers do not tell the drives' identities.
	NoID bool `json:"no-id,omitempty"`
	// SerialOnly changers tell a drive's serial number alone.
	SerialOnly bool `json:"serial-only,omitempty"`
	// NoTransportTag changers say that transports have tags, and leave them out.
	NoTransportTag bool `json:"no-transport-tag,omitempty"`
	// NoTransport changers report no transport.
	NoTransport bool `json:"no-transport,omitempty"`
	// NoSource changers do not tell where a medium came from.
	NoSource bool `json:"no-source,omitempty"`
	// ShortAllocation changers look at 16 bits of the allocation length.
	ShortAllocation bool `json:"short-allocation,omitempty"`
	// MissingElements reports count one element more than they have.
	MissingElements bool `json:"missing-elements,omitempty"`
	// EjectFirst changers refuse to take out what is threaded.
	EjectFirst bool `json:"eject-first,omitempty"`
	// NoPosition changers do not know POSITION TO ELEMENT.
	NoPosition bool `json:"no-position,omitempty"`
}

// Times are how long things take. Zero is at once.
type Times struct {
	Move, Inventory time.Duration
}

// Clock is the time that a changer lives in.
type Clock interface {
	Now() time.Time
	Sleep(d time.Duration)
}

type realClock struct{}

func (realClock) Now() time.Time        { return time.Now() }
func (realClock) Sleep(d time.Duration) { time.Sleep(d) }

// Medium is a cartridge as a changer sees it.
type Medium struct {
	Name    string // what the vault calls it
	Barcode string // "" when it has none
	Kind    Kind
}

// Kind is the kind of a medium, as a changer tells it.
type Kind byte

// The kinds.
const (
	Data     Kind = 1
	Cleaning Kind = 2
	WORM     Kind = 4
)

// Vault keeps the cartridges.
type Vault interface {
	// Insert puts a cartridge into a drive, from 0, and Remove takes it out. Their
	// errors may be senses, which the host is told.
	Insert(drive int, name string) error
	Remove(drive int) error
	// Save makes durable what is where.
	Save(places []Place) error
}

// Place is a full element.
type Place struct {
	Address uint16 `json:"address"`
	Name    string `json:"cartridge"`
	From    uint16 `json:"from,omitempty"` // address of the slot that it came from
}

// Drive is a drive as a changer sees it.
type Drive interface {
	Identity() (vendor, product, serial string)
	// State tells whether the drive has threaded its medium, and whether it was
	// told to hold it back.
	State() (threaded, prevented bool)
}
