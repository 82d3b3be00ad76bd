package lto

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-backup/holdfast/internal/cancel"
	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/lto/logpage"
)

// Format makes the medium empty. With fast, data may stay behind the new end of
// data; else all of it is erased, which takes hours. A WORM medium is only
// looked at: it must be empty.
func (d *Drive) Format(ctx context.Context, fast bool) error {
	worm, err := d.WORM()
	if err != nil {
		return err
	}
	if worm {
		return d.mustBeEmpty()
	}
	if err := d.Rewind(ctx); err != nil {
		return err
	}
	m, err := d.readMode()
	if err != nil {
		return err
	}
	if m.density.formats(fast) {
		err = d.long(ctx, []byte{byte(scsi.FormatMedium), 1, 0, 0, 0, 0}, formatting)
		if refused(err) {
			err = d.erase(ctx, true)
		}
	} else if fast {
		err = d.erase(ctx, true)
	}
	if err != nil {
		return fmt.Errorf("format the medium: %w", err)
	}
	if !fast {
		if err := d.Rewind(ctx); err != nil {
			return err
		}
		if err := d.erase(ctx, false); err != nil {
			return fmt.Errorf("erase the medium: %w", err)
		}
	}
	if err := d.Rewind(ctx); err != nil {
		return err
	}
	if err := d.unmark(); err != nil && !refused(err) {
		return fmt.Errorf("the medium is empty, and its memory keeps the old label: %w", err)
	}
	return nil
}

func (d *Drive) mustBeEmpty() error {
	if err := d.toEnd(); err != nil {
		return err
	}
	if d.at.Object != 0 {
		return fmt.Errorf("a WORM medium with data cannot be formatted: %w", tape.ErrWriteProtected)
	}
	return nil
}

// Erase ends the data at the position; not fast, it erases all behind it.
func (d *Drive) Erase(ctx context.Context, fast bool) error {
	if err := d.sure(); err != nil {
		return err
	}
	if err := d.erase(ctx, fast); err != nil {
		return fmt.Errorf("erase the medium: %w", err)
	}
	return d.look()
}

func (d *Drive) erase(ctx context.Context, fast bool) error {
	const long = 0x01
	cdb := []byte{byte(scsi.Erase), 0x02, 0, 0, 0, 0}
	if !fast {
		cdb[1] |= long
	}
	err := d.long(ctx, cdb, erasing)
	if refused(err) && fast { // IMMED is not known
		cdb[1] &^= 0x02
		_, err = d.act(scsi.Command{CDB: cdb, Timeout: motion})
	}
	return err
}

// long starts a command that takes long, and waits for its end.
func (d *Drive) long(ctx context.Context, cdb []byte, limit time.Duration) error {
	if _, err := d.act(scsi.Command{CDB: cdb, Timeout: motion}); err != nil {
		return err
	}
	d.doubt(fmt.Errorf("%s is at work", scsi.OpcodeOf(cdb)))
	for start := time.Now(); ; {
		err := scsi.CheckReady(d.t)
		if s, ok := scsi.AsSense(err); ok && s.Key == scsi.UnitAttention && !harmless(s) {
			d.lose(s)
			return d.lost
		}
		wait, why := coming(err)
		switch {
		case err == nil && !d.erases():
			return nil
		case err != nil && !wait:
			return why
		case time.Since(start) > limit:
			return errors.Join(fmt.Errorf("%s did not end in %v", scsi.OpcodeOf(cdb), limit), err)
		}
		if err := cancel.Sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// erases reports whether the drive is at a long command, though it says that it
// is ready.
func (d *Drive) erases() bool {
	a, err := d.Activity()
	return err == nil && (a == logpage.Erasing || a == logpage.Formatting || a == logpage.Calibrating)
}

// Eject takes the medium out of the drive, after what was written is on it.
func (d *Drive) Eject(context.Context) error {
	_, err := d.ask(scsi.Command{CDB: []byte{byte(scsi.LoadUnload), 0, 0, 0, 0, 0}, Timeout: motion})
	if err != nil && !errors.Is(err, tape.ErrNoMedium) {
		return fmt.Errorf("eject the medium: %w", err)
	}
	if d.lost == nil {
		d.at, d.unsure = Position{}, nil // the drive says itself that it is empty
	}
	return nil
}

// Load takes the medium that lies in the drive in, and waits until it is ready.
func (d *Drive) Load(ctx context.Context) error {
	if err := d.waitReady(ctx, true); err != nil {
		return err
	}
	return d.Ready(ctx)
}

// Lock keeps the medium in the drive, or lets it go.
func (d *Drive) Lock(lock bool) error {
	cdb := []byte{byte(scsi.PreventAllowMediumRemoval), 0, 0, 0, 0, 0}
	if lock {
		cdb[4] = 1
	}
	_, err := d.ask(scsi.Command{CDB: cdb, Timeout: motion})
	return err
}
