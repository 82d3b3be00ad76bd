package changer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/cancel"
	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/tape"
)

// Changer is a medium changer. Its errors are those of package tape.
type Changer struct {
	t  scsi.Transport
	id scsi.Identity

	seen     bool // the addresses below are known, and nothing was changed since
	arm      uint16
	slots    []uint16 // addresses, by number less 1
	drives   []uint16
	stations int // how many of the slots, at the end, are for import and export
}

var _ tape.Changer = (*Changer)(nil)

// Open makes sure that t leads to a changer. With success t belongs to it.
func Open(t scsi.Transport) (*Changer, error) {
	id, err := scsi.Identify(t)
	if err != nil {
		return nil, err
	}
	if id.Type != scsi.TypeChanger {
		return nil, fmt.Errorf("%s %s is no media changer, but: %s", id.Vendor, id.Product, id.Type)
	}
	return &Changer{t: t, id: id}, nil
}

// Identity is who the changer says that it is.
func (c *Changer) Identity() scsi.Identity { return c.id }

// Close lets go of the changer.
func (c *Changer) Close() error { return c.t.Close() }

// Status reads what is where.
func (c *Changer) Status(ctx context.Context) (tape.ChangerStatus, error) {
	if err := c.waitReady(ctx); err != nil {
		return tape.ChangerStatus{}, err
	}
	in, err := c.inventory()
	if err != nil {
		return tape.ChangerStatus{}, err
	}
	c.learn(in)
	return c.status(in), nil
}

// learn keeps the addresses.
func (c *Changer) learn(in inventory) {
	c.slots, c.drives = c.slots[:0], c.drives[:0]
	for _, e := range in.slots {
		c.slots = append(c.slots, e.address)
	}
	for _, e := range in.stations {
		c.slots = append(c.slots, e.address)
	}
	for _, e := range in.drives {
		c.drives = append(c.drives, e.address)
	}
	c.stations, c.arm, c.seen = len(in.stations), in.arm, true
}

// status numbers the elements.
func (c *Changer) status(in inventory) tape.ChangerStatus {
	s := tape.ChangerStatus{Drives: []tape.DriveElement{}, Slots: []tape.Slot{}, Arms: []tape.Content{}}
	number := map[uint16]int{}
	for i, a := range c.slots {
		number[a] = i + 1
	}
	for _, e := range in.slots {
		s.Slots = append(s.Slots, tape.Slot{Content: content(e)})
	}
	for _, e := range in.stations {
		s.Slots = append(s.Slots, tape.Slot{Content: content(e), ImportExport: true})
	}
	for _, e := range in.drives {
		d := tape.DriveElement{Content: content(e), Vendor: e.vendor, Model: e.model, Serial: e.serial}
		if e.full && e.hasSource {
			d.From = number[e.source]
		}
		s.Drives = append(s.Drives, d)
	}
	for _, e := range in.arms {
		s.Arms = append(s.Arms, content(e))
	}
	return s
}

// content is what an element holds. A tag of an empty one is what was there.
func content(e element) tape.Content {
	if !e.full {
		return tape.Content{}
	}
	return tape.Content{Full: true, Label: e.label}
}

// Load brings the medium of a slot into a drive.
func (c *Changer) Load(ctx context.Context, slot, drive int) error {
	return c.move(ctx, func() (from, to uint16, err error) {
		if from, err = c.slot(slot); err != nil {
			return 0, 0, err
		}
		to, err = c.drive(drive)
		return from, to, err
	})
}

// Unload brings the medium of a drive into a slot.
func (c *Changer) Unload(ctx context.Context, drive, slot int) error {
	return c.move(ctx, func() (from, to uint16, err error) {
		if from, err = c.drive(drive); err != nil {
			return 0, 0, err
		}
		to, err = c.slot(slot)
		return from, to, err
	})
}

// Transfer moves a medium between slots.
func (c *Changer) Transfer(ctx context.Context, from, to int) error {
	return c.move(ctx, func() (a, b uint16, err error) {
		if a, err = c.slot(from); err != nil {
			return 0, 0, err
		}
		b, err = c.slot(to)
		return a, b, err
	})
}

func (c *Changer) slot(n int) (uint16, error) {
	if n < 1 || n > len(c.slots) {
		return 0, fmt.Errorf("slot %d of a changer with %d: %w", n, len(c.slots), tape.ErrNoSuchSlot)
	}
	return c.slots[n-1], nil
}

func (c *Changer) drive(n int) (uint16, error) {
	if n < 0 || n >= len(c.drives) {
		return 0, fmt.Errorf("the changer has %d drives, and no drive %d", len(c.drives), n)
	}
	return c.drives[n], nil
}

// move moves one medium. The addresses are asked for when they are known.
func (c *Changer) move(ctx context.Context, between func() (from, to uint16, err error)) error {
	if !c.seen {
		if _, err := c.Status(ctx); err != nil {
			return err
		}
	}
	from, to, err := between()
	if err != nil {
		return err
	}
	err = c.send(ctx, from, to)
	if s, ok := scsi.AsSense(err); ok && s.Says(scsi.HardwareError, 0x0403) && c.untouched(from, to) {
		// A library can be surprised by a drive that gave its medium out a moment ago.
		if err := cancel.Sleep(ctx, pause); err != nil {
			return err
		}
		err = c.send(ctx, from, to)
	}
	if s, ok := scsi.AsSense(err); ok && s.Key == scsi.UnitAttention {
		c.seen = false
		return fmt.Errorf("look again what is in the changer: %w: %w", tape.ErrChanged, err)
	}
	return explain(err)
}

// send sends one move.
func (c *Changer) send(ctx context.Context, from, to uint16) error {
	cdb := []byte{
		byte(scsi.MoveMedium), 0, byte(c.arm >> 8), byte(c.arm), byte(from >> 8), byte(from), byte(to >> 8), byte(to), 0, 0, 0, 0,
	}
	return c.busy(ctx, func() error {
		_, err := c.t.Do(scsi.Command{CDB: cdb, Timeout: moving})
		return err
	})
}

// untouched reports whether a move surely did not begin: its medium is where it
// was, and its destination is empty.
func (c *Changer) untouched(from, to uint16) bool {
	in, err := c.inventory()
	if err != nil {
		return false
	}
	there, free := false, false
	for _, e := range slices.Concat(in.slots, in.stations, in.drives) {
		there = there || e.address == from && e.full
		free = free || e.address == to && !e.full
	}
	return there && free
}

// Inventory has the changer look at all its elements again.
func (c *Changer) Inventory(ctx context.Context) error {
	if err := c.waitReady(ctx); err != nil {
		return err
	}
	c.seen = false
	return explain(c.busy(ctx, func() error {
		_, err := c.t.Do(scsi.Command{CDB: []byte{byte(scsi.InitializeElementStatus), 0, 0, 0, 0, 0}, Timeout: stocktaking})
		return err
	}))
}

// explain wraps the kind of failure, where package tape has one.
func explain(err error) error {
	if s, ok := errors.AsType[*scsi.StatusError](err); ok && s.Status == scsi.ReservationConflict {
		return fmt.Errorf("%w: %w", tape.ErrBusy, err)
	}
	s, ok := scsi.AsSense(err)
	if !ok {
		return err
	}
	switch s.Code() {
	case 0x3b0e:
		return fmt.Errorf("%w: %w", tape.ErrNoMedium, err)
	case 0x2101:
		return fmt.Errorf("%w: %w", tape.ErrNoSuchSlot, err)
	case 0x2000:
		return fmt.Errorf("%w: %w", tape.ErrUnsupported, err)
	}
	return err
}
