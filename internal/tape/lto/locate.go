package lto

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/tape"
)

// locator is what was learnt of LOCATE by file.
type locator struct {
	useless bool  // the drive does not know it
	off     int64 // where it stops, less where it should
}

// Locate moves to the beginning of a file. Where the drive stands there already,
// it only makes sure of that: a tape that is read file by file never stops.
func (d *Drive) Locate(ctx context.Context, file uint64) error {
	if d.sure() == nil && d.at == d.begin && d.at.File == file {
		return d.check()
	}
	if file == 0 {
		return d.Rewind(ctx)
	}
	if err := d.search(ctx, file); err != nil {
		return err
	}
	d.begin = d.at
	return nil
}

// search moves to the beginning of a file behind the first.
func (d *Drive) search(ctx context.Context, file uint64) error {
	if file > 1 && !d.locate.useless {
		err := d.locateFast(file)
		switch {
		case err == nil:
			return nil
		case refused(err):
			d.locate.useless = true
		case !errors.Is(err, tape.ErrEndOfData) && !errors.Is(err, errElsewhere):
			d.doubt(err)
			return err
		}
	}
	return d.locateSlow(ctx, file)
}

// errElsewhere is a drive that stopped where it should not have.
var errElsewhere = errors.New("the drive stopped at another file")

// locateFast lets the drive search. It stops before the filemark in front of the
// file, which is then passed over, so that the drive surely stands at the
// file's beginning; except that drives count differently.
func (d *Drive) locateFast(file uint64) error {
	k := int64(file) - 1 - d.locate.off
	if k < 0 {
		k = 0
	}
	cdb := []byte{byte(scsi.Locate16), 1 << 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint64(cdb[4:], uint64(k))
	if _, err := d.act(scsi.Command{CDB: cdb, Timeout: motion}); err != nil {
		return err
	}
	err := d.space(marks, 1)
	atEnd := errors.Is(err, tape.ErrEndOfData)
	if err != nil && !atEnd {
		return err
	}
	if err := d.look(); err != nil {
		return err
	}
	off := int64(d.at.File) - int64(file)
	switch {
	case off == 0 && atEnd:
		return errElsewhere // perhaps behind blocks of the file
	case off == 0:
		return nil
	case !atEnd:
		d.locate.off += off
	}
	return d.correct(file, off)
}

// correct moves from file file+off to the beginning of file.
func (d *Drive) correct(file uint64, off int64) error {
	forward := -off
	if off > 0 { // before the filemark in front of it, and over that
		if err := d.space(marks, -off-1); err != nil {
			return err
		}
		forward = 1
	}
	if err := d.space(marks, forward); err != nil {
		return err
	}
	if err := d.look(); err != nil {
		return err
	}
	if d.at.File != file {
		return errElsewhere
	}
	return nil
}

// locateSlow counts filemarks from the beginning.
func (d *Drive) locateSlow(ctx context.Context, file uint64) error {
	if err := d.Rewind(ctx); err != nil {
		return err
	}
	if file > 1<<62 {
		return fmt.Errorf("file %d: %w", file, tape.ErrEndOfData)
	}
	if err := d.space(marks, int64(file)); err != nil {
		if errors.Is(err, tape.ErrEndOfData) {
			return errors.Join(fmt.Errorf("file %d: %w", file, err), d.look())
		}
		d.doubt(err)
		return fmt.Errorf("locate file %d: %w", file, err)
	}
	if err := d.look(); err != nil {
		return err
	}
	if d.at.File != file {
		err := fmt.Errorf("the drive was to locate file %d and stands in file %d", file, d.at.File)
		d.doubt(err)
		return err
	}
	return nil
}
