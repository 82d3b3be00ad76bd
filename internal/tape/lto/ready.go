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

// How long things are waited for.
const (
	pause         = time.Second
	loading       = 10 * time.Minute
	calibrating   = 2*time.Hour + 5*time.Minute
	formatting    = 3 * time.Hour // with what comes behind it
	erasing       = 24 * time.Hour
	longestRewind = 20 * time.Minute
)

// Ready waits until the medium can be used and sets what the driver relies on.
// It stands where it stood.
func (d *Drive) Ready(ctx context.Context) error {
	d.ready, d.lost = false, nil
	if err := d.waitReady(ctx, d.cfg.Load); err != nil {
		return err
	}
	if err := d.checkBlockSize(); err != nil {
		return err
	}
	if err := d.setOptions(); err != nil {
		return err
	}
	if err := d.clearKey(); err != nil {
		return err
	}
	d.ready, d.unsure, d.locate = true, nil, locator{}
	return d.look()
}

// waitReady waits until the drive would carry out commands.
func (d *Drive) waitReady(ctx context.Context, load bool) error {
	limit, told := loading, 0
	for start := time.Now(); ; {
		err := scsi.CheckReady(d.t)
		if err == nil {
			return nil
		}
		wait, why := coming(err)
		switch {
		case !wait && load && loadable(err):
			load = false // once
			d.tryLoad()
			continue
		case !wait:
			return why
		}
		if s, ok := scsi.AsSense(err); ok && s.Key == scsi.UnitAttention && told < attentions {
			told++
			continue // it was told, and is no reason to wait
		}
		if limit == loading && time.Since(start) > limit && d.calibrates() {
			limit = calibrating
		}
		if time.Since(start) > limit {
			return fmt.Errorf("the drive was not ready after %v: %w", limit, err)
		}
		if err := cancel.Sleep(ctx, pause); err != nil {
			return errors.Join(err, why)
		}
	}
}

// coming tells whether a drive that is not ready will be so by itself, and what
// is the matter.
func coming(err error) (bool, error) {
	if s, ok := errors.AsType[*scsi.StatusError](err); ok {
		return s.Status == scsi.Busy || s.Status == scsi.TaskSetFull, explain(err)
	}
	s, ok := scsi.AsSense(err)
	if !ok {
		return false, err
	}
	switch {
	case s.Key == scsi.UnitAttention, s.Key == scsi.NoSense:
		return true, err
	case s.Key != scsi.NotReady:
		return false, explain(err)
	case s.Code() == 0x3003:
		return false, fmt.Errorf("%w but one for cleaning: %w", tape.ErrNoMedium, err)
	case s.ASC == 0x04 && s.ASCQ != 0x02 && s.ASCQ != 0x03 && s.ASCQ != 0x12:
		return true, err // it loads, rewinds, formats, erases
	}
	return false, explain(err)
}

// loadable reports whether loading may help.
func loadable(err error) bool {
	s, ok := scsi.AsSense(err)
	return ok && s.Key == scsi.NotReady && (s.ASC == 0x3a || s.Code() == 0x0402)
}

// tryLoad loads what may lie in the drive; whether that helped, TEST UNIT READY
// tells.
func (d *Drive) tryLoad() {
	_, _ = d.t.Do(scsi.Command{CDB: []byte{byte(scsi.LoadUnload), 0, 0, 0, 1, 0}, Timeout: motion})
}

func (d *Drive) calibrates() bool {
	a, err := d.Activity()
	return err == nil && a == logpage.Calibrating
}

// checkBlockSize makes sure that blocks of tapes fit.
func (d *Drive) checkBlockSize() error {
	var b [6]byte
	n, err := d.ask(scsi.Command{CDB: []byte{byte(scsi.ReadBlockLimits), 0, 0, 0, 0, 0}, Dir: scsi.In, Data: b[:], Timeout: quick})
	if err != nil {
		return err
	}
	largest := int(b[1])<<16 | int(b[2])<<8 | int(b[3])
	if n == len(b) && largest != 0 && largest < tape.BlockSize {
		return fmt.Errorf("the drive takes blocks of %d bytes, and %d are needed: %w", largest, tape.BlockSize, tape.ErrUnsupported)
	}
	return nil
}
