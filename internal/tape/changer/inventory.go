package changer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/scsi"
)

// inventory is all elements of a changer.
type inventory struct {
	slots, stations, drives, arms []element
	arm                           uint16 // the transport that moves media
}

// What is asked for in one query.
const (
	most = 1000   // elements
	room = 0xffff // bytes: some changers look at 16 bits of this number
	// longest is more than an element has, in bytes: where less is left, some may
	// have been cut off.
	longest = 512
)

// inventory asks for all elements.
func (c *Changer) inventory() (in inventory, err error) {
	for _, q := range []struct {
		kind kind
		into *[]element
	}{{storage, &in.slots}, {importExport, &in.stations}, {drive, &in.drives}, {transport, &in.arms}} {
		*q.into, err = c.elements(q.kind, true, false)
		if refused(err) && q.kind != storage { // it has none of these
			*q.into, err = nil, nil
		}
		if err != nil {
			return inventory{}, err
		}
	}
	if err := c.identify(in.drives); err != nil {
		return inventory{}, err
	}
	in.arm, err = c.transport(in.arms)
	return in, err
}

// identify finds out which drives these are, as far as the changer tells.
func (c *Changer) identify(drives []element) error {
	if len(drives) == 0 {
		return nil
	}
	known, err := c.elements(drive, false, true)
	if _, ok := scsi.AsSense(err); ok {
		return nil
	}
	if err != nil {
		return err
	}
	for i := range drives {
		d := &drives[i]
		if k := slices.IndexFunc(known, func(e element) bool { return e.address == d.address }); k >= 0 {
			d.vendor, d.model, d.serial = known[k].vendor, known[k].model, known[k].serial
		}
	}
	return nil
}

// transport is the address of the first transport. A changer that reports none
// may still say where it is; 0 is right for all others.
func (c *Changer) transport(arms []element) (uint16, error) {
	if len(arms) > 0 {
		return arms[0].address, nil
	}
	m, err := scsi.ReadMode(c.t, scsi.ModePage{Page: 0x1d, NoBlocks: true})
	if _, said := scsi.AsSense(err); said {
		return 0, nil
	}
	if _, lost := errors.AsType[*scsi.TransportError](err); lost {
		return 0, err
	}
	if err == nil && len(m.Page) >= 6 && binary.BigEndian.Uint16(m.Page[4:]) > 0 {
		return binary.BigEndian.Uint16(m.Page[2:]), nil
	}
	return 0, nil
}

// elements asks for the elements of a kind, in the order of their addresses.
func (c *Changer) elements(k kind, tags, ids bool) ([]element, error) {
	var all []element
	b := make([]byte, room)
	for start := 0; start <= 0xffff; {
		cdb := []byte{
			byte(scsi.ReadElementStatus), byte(k), byte(start >> 8), byte(start), most >> 8, most & 0xff, 0, 0, room >> 8, room & 0xff, 0, 0,
		}
		if tags {
			cdb[1] |= 0x10
		}
		if ids {
			cdb[6] |= 0x01
		}
		n, err := c.t.Do(scsi.Command{CDB: cdb, Dir: scsi.In, Data: b, Timeout: asking})
		if refused(err) && len(all) > 0 {
			break // there is no element behind the last one
		}
		if err != nil {
			return nil, explain(err)
		}
		part, err := parse(b[:n])
		if err != nil {
			return nil, err
		}
		part = slices.DeleteFunc(part, func(e element) bool { return e.kind != k || int(e.address) < start })
		slices.SortFunc(part, func(a, b element) int { return int(a.address) - int(b.address) })
		for i := 1; i < len(part); i++ {
			if part[i].address == part[i-1].address {
				return nil, fmt.Errorf("the changer reports two elements with the address %d", part[i].address)
			}
		}
		all = append(all, part...)
		if len(part) == 0 {
			break
		}
		if len(part) < most && n <= room-longest {
			break
		}
		start = int(part[len(part)-1].address) + 1
	}
	return all, nil
}

// refused reports whether the changer does not know what it was asked for.
func refused(err error) bool {
	s, ok := scsi.AsSense(err)
	return ok && s.Key == scsi.IllegalRequest
}
