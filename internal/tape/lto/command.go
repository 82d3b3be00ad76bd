package lto

import (
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/tape"
)

// Timeouts of commands.
const (
	quick  = 30 * time.Second
	answer = 60 * time.Second
	motion = 20 * time.Minute
	data   = 20 * time.Minute
)

// attentions is how many unit attentions in a row are taken for harmless.
const attentions = 8

// ask sends a command that neither moves the medium nor changes it. It may be
// repeated.
func (d *Drive) ask(c scsi.Command) (n int, err error) {
	for range attentions {
		n, err = d.t.Do(c)
		if s, ok := scsi.AsSense(err); !ok || s.Key != scsi.UnitAttention {
			break
		} else if d.ready && !harmless(s) {
			d.lose(s)
		}
	}
	return n, explain(err)
}

// act sends a command that moves the medium or writes. It is repeated only if
// it surely was not carried out, and the medium is surely the same.
func (d *Drive) act(c scsi.Command) (n int, err error) {
	if d.lost != nil {
		return 0, d.lost
	}
	for range attentions {
		n, err = d.t.Do(c)
		s, ok := scsi.AsSense(err)
		if !ok || s.Key != scsi.UnitAttention || s.Deferred {
			break
		}
		if !d.ready {
			continue
		}
		if !harmless(s) {
			d.lose(s)
			return 0, d.lost
		}
		if err := d.setOptions(); err != nil {
			return 0, err
		}
	}
	if _, ok := errors.AsType[*scsi.TransportError](err); ok {
		d.doubt(err)
	}
	return n, explain(err)
}

// harmless reports whether a unit attention leaves medium, position and key as
// they were: modes, logs, capacity, clock, texts of INQUIRY, wishes of people.
func harmless(s *scsi.Sense) bool {
	switch s.Code() {
	case 0x2a01, 0x2a02, 0x2a09, 0x2a10, 0x3f03, 0x3f0e:
		return true
	}
	return s.ASC == 0x5a
}

// lose notes that the medium may be another one.
func (d *Drive) lose(s *scsi.Sense) {
	if d.lost == nil {
		d.lost = fmt.Errorf("%w, open it anew: %w", tape.ErrChanged, s)
	}
}

// doubt notes that nobody knows the position.
func (d *Drive) doubt(err error) {
	if d.unsure == nil {
		d.unsure = err
	}
}

// sure returns nil if the position is known.
func (d *Drive) sure() error {
	switch {
	case d.lost != nil:
		return d.lost
	case d.unsure != nil:
		return fmt.Errorf("the position of the tape is not known: %w", d.unsure)
	}
	return nil
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
	var kind error
	switch {
	case s.ASC == 0x3a:
		kind = tape.ErrNoMedium
	case s.Key == scsi.BlankCheck:
		kind = tape.ErrEndOfData
	case s.Key == scsi.VolumeOverflow:
		kind = tape.ErrFull
	case s.ASC == 0x27, s.Code() == 0x300c, s.Code() == 0x3005:
		kind = tape.ErrWriteProtected
	case s.ASC == 0x74:
		kind = tape.ErrKey
	case s.Code() == 0x2000:
		kind = tape.ErrUnsupported
	default:
		return err
	}
	return fmt.Errorf("%w: %w", kind, err)
}

// says reports whether err is this sense.
func says(err error, key scsi.Key, code uint16) bool {
	s, ok := scsi.AsSense(err)
	return ok && s.Says(key, code)
}

// refused reports whether the drive does not know what it was asked for.
func refused(err error) bool {
	s, ok := scsi.AsSense(err)
	return ok && s.Key == scsi.IllegalRequest && (s.ASC == 0x20 || s.ASC == 0x24 || s.ASC == 0x26)
}
