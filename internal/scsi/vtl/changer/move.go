package changer

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/spc"
)

func (c *Changer) moveMedium(r *request) (int, error) {
	be := binary.BigEndian
	if err := c.checkTransport(be.Uint16(r.cdb[2:])); err != nil {
		return 0, err
	}
	from, to := c.at(be.Uint16(r.cdb[4:])), c.at(be.Uint16(r.cdb[6:]))
	switch {
	case from == nil || to == nil:
		return 0, noElement()
	case r.cdb[10]&0x01 != 0: // to turn the medium over
		return 0, spc.BadField()
	case from.medium == nil:
		return 0, spc.Sense(scsi.IllegalRequest, 0x3b0e)
	case from == to:
		return 0, nil
	case to.medium != nil:
		return 0, spc.Sense(scsi.IllegalRequest, 0x3b0d)
	}
	if from.kind == dataTransfer {
		threaded, prevented := c.cfg.Drives[from.address-firstDrive].State()
		if prevented || threaded && c.cfg.Quirks.EjectFirst {
			return 0, spc.Sense(scsi.IllegalRequest, 0x5302)
		}
	}
	c.clock.Sleep(c.cfg.Times.Move)
	if err := c.move(from, to); err != nil {
		if s, ok := scsi.AsSense(err); ok {
			return 0, s
		}
		return 0, spc.Sense(scsi.HardwareError, 0x1501) // a mechanical positioning error
	}
	return 0, nil
}

// move brings a medium to an empty element. When that fails, all is as before as
// far as the vault lets it.
func (c *Changer) move(from, to *element) error {
	m := from.medium
	if err := c.out(from); err != nil {
		return err
	}
	if err := c.into(to, m); err != nil {
		return errors.Join(err, c.into(from, m))
	}
	wasFrom, wasTo := *from, *to
	to.medium, to.from = m, from.from
	if from.kind == storage || from.kind == importExport {
		to.from = from.address
	}
	from.medium, from.from = nil, 0
	if err := c.vault.Save(c.places()); err != nil {
		*from, *to = wasFrom, wasTo
		return errors.Join(err, c.out(&element{kind: to.kind, address: to.address}), c.into(from, m))
	}
	return nil
}

func (c *Changer) out(e *element) error {
	if e.kind != dataTransfer {
		return nil
	}
	return c.vault.Remove(int(e.address - firstDrive))
}

func (c *Changer) into(e *element, m *Medium) error {
	if e.kind != dataTransfer {
		return nil
	}
	return c.vault.Insert(int(e.address-firstDrive), m.Name)
}

func (c *Changer) places() (list []Place) {
	for _, e := range c.elements {
		if e.medium != nil {
			list = append(list, Place{e.address, e.medium.Name, e.from})
		}
	}
	return list
}

// Places lists the full elements by their addresses.
func (c *Changer) Places() []Place {
	c.run.Lock()
	defer c.run.Unlock()
	return c.places()
}

// Put brings a medium from outside into an empty element that is no drive: by
// hand, through the import and export station or an open door.
func (c *Changer) Put(address uint16, m Medium) error {
	c.run.Lock()
	defer c.run.Unlock()
	e := c.at(address)
	switch {
	case e == nil || e.kind == dataTransfer || e.kind == transport:
		return fmt.Errorf("there is no slot with address %d", address)
	case e.medium != nil:
		return fmt.Errorf("slot %d is full", address)
	}
	return c.change(e, &m)
}

// Take takes a medium out of the library by hand.
func (c *Changer) Take(name string) error {
	c.run.Lock()
	defer c.run.Unlock()
	for _, e := range c.elements {
		if e.medium == nil || e.medium.Name != name {
			continue
		}
		if e.kind == dataTransfer || e.kind == transport {
			return fmt.Errorf("cartridge %s is in a drive: unload it first", name)
		}
		return c.change(e, nil)
	}
	return fmt.Errorf("cartridge %s is not in the library", name)
}

// ErrLocked is returned by Put and Take while a host holds the station locked.
var ErrLocked = errors.New("the library is locked by a host")

func (c *Changer) change(e *element, m *Medium) error {
	if e.kind == importExport && c.prevented {
		return ErrLocked
	}
	before := *e
	e.medium, e.from = m, 0
	if err := c.vault.Save(c.places()); err != nil {
		*e = before
		return err
	}
	if e.kind == importExport {
		c.attention.Add(spc.ImportExport)
	} else {
		c.attention.Add(spc.MediumChanged)
	}
	return nil
}

// FreeSlot is the address of an empty slot; of an import and export element
// where station says so.
func (c *Changer) FreeSlot(station bool) (uint16, error) {
	c.run.Lock()
	defer c.run.Unlock()
	want := storage
	if station {
		want = importExport
	}
	for _, e := range c.elements {
		if e.kind == want && e.medium == nil {
			return e.address, nil
		}
	}
	return 0, errors.New("no slot is free")
}
