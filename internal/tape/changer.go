package tape

import "context"

// Changer moves media between slots and drives. It is not safe for concurrent
// use.
type Changer interface {
	// Status reads what is where.
	Status(ctx context.Context) (ChangerStatus, error)
	// Load brings the medium of a slot, from 1, into a drive, from 0.
	Load(ctx context.Context, slot, drive int) error
	// Unload brings the medium of a drive into a slot.
	Unload(ctx context.Context, drive, slot int) error
	// Transfer moves a medium between slots.
	Transfer(ctx context.Context, from, to int) error
	Close() error
}

// ChangerStatus is what a changer holds. Slots are numbered from 1: those for
// storage first, then those for import and export.
type ChangerStatus struct {
	Drives []DriveElement
	Slots  []Slot
	Arms   []Content // what the transports hold, which is nothing but after a failure
}

// Content is what an element holds.
type Content struct {
	Full  bool
	Label string // text of the barcode; "" when it has none or cannot be read
}

// DriveElement is a drive as the changer sees it.
type DriveElement struct {
	Content
	From                  int // slot from which the medium came; 0 when not known
	Vendor, Model, Serial string
}

// Slot is a place for one medium.
type Slot struct {
	Content
	ImportExport bool // people put media in and take them out here
}
