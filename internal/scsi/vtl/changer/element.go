package changer

import "fmt"

// kind is the type of an element, in the numbers of SMC.
type kind byte

const (
	transport    kind = 1
	storage      kind = 2
	importExport kind = 3
	dataTransfer kind = 4
)

// Addresses of the first elements.
const (
	firstTransport    = 0
	firstImportExport = 10
	firstDrive        = 500
	firstSlot         = 1000
)

// What there is room for between the addresses.
const (
	MaxImportExport = firstDrive - firstImportExport
	MaxDrives       = firstSlot - firstDrive
	MaxSlots        = 60_000
)

// SlotAddress and its companions are the addresses of elements, counted from 0.
func SlotAddress(n int) uint16         { return firstSlot + uint16(n) }
func ImportExportAddress(n int) uint16 { return firstImportExport + uint16(n) }
func DriveAddress(n int) uint16        { return firstDrive + uint16(n) }

// element is a place for one medium.
type element struct {
	kind    kind
	address uint16
	medium  *Medium // nil: empty
	from    uint16  // address of the slot it came from; 0: not known
}

// elements makes the empty elements, in the order of their addresses.
func elements(cfg Config) ([]*element, error) {
	switch {
	case cfg.Slots < 1 || cfg.Slots > MaxSlots:
		return nil, fmt.Errorf("a changer with %d slots: there can be 1 to %d", cfg.Slots, MaxSlots)
	case cfg.ImportExport < 0 || cfg.ImportExport > MaxImportExport:
		return nil, fmt.Errorf("a changer with %d import and export elements: there can be up to %d", cfg.ImportExport, MaxImportExport)
	case len(cfg.Drives) < 1 || len(cfg.Drives) > MaxDrives:
		return nil, fmt.Errorf("a changer with %d drives: there can be 1 to %d", len(cfg.Drives), MaxDrives)
	}
	var list []*element
	add := func(k kind, first, n int) {
		for i := range n {
			list = append(list, &element{kind: k, address: uint16(first + i)})
		}
	}
	if !cfg.Quirks.NoTransport {
		add(transport, firstTransport, 1)
	}
	add(importExport, firstImportExport, cfg.ImportExport)
	add(dataTransfer, firstDrive, len(cfg.Drives))
	add(storage, firstSlot, cfg.Slots)
	return list, nil
}

// at is the element with an address, or nil.
func (c *Changer) at(address uint16) *element {
	for _, e := range c.elements {
		if e.address == address {
			return e
		}
	}
	return nil
}
