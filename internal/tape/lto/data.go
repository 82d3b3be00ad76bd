package lto

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/tape"
)

// ReadBlock reads the next block, as much of it as fits into p.
func (d *Drive) ReadBlock(p []byte) (int, error) {
	if err := d.sure(); err != nil {
		return 0, err
	}
	if len(p) == 0 || len(p) >= 1<<24 {
		return 0, fmt.Errorf("a block of %d bytes cannot be read", len(p))
	}
	const anyLength = 0x02 // SILI: shorter and longer blocks are fine
	d.cdb = [6]byte{byte(scsi.Read6), anyLength, byte(len(p) >> 16), byte(len(p) >> 8), byte(len(p)), 0}
	n, err := d.act(scsi.Command{CDB: d.cdb[:], Dir: scsi.In, Data: p, Timeout: data})
	s, said := scsi.AsSense(err)
	switch {
	case err == nil:
	case !said || s.Deferred:
		d.doubt(err)
		return 0, err
	case s.Filemark, s.Key == scsi.NoSense && s.Code() == 0x0001:
		d.at.Object++
		d.at.File++
		d.begin = d.at
		return 0, tape.ErrFilemark
	case s.Key == scsi.NoSense, s.Key == scsi.Recovered: // the end of the medium is near, or it was hard to read
	case s.Key == scsi.BlankCheck:
		return 0, err
	default:
		d.doubt(err)
		return 0, err
	}
	if n == 0 {
		if err == nil {
			err = errors.New("it says no reason")
		}
		err = fmt.Errorf("the drive gave no block: %w", err)
		d.doubt(err)
		return 0, err
	}
	d.at.Object++
	return n, nil
}

// WriteBlock writes a block.
func (d *Drive) WriteBlock(p []byte) (early bool, err error) {
	if len(p) != tape.BlockSize {
		return false, fmt.Errorf("a block of %d bytes, not %d", len(p), tape.BlockSize)
	}
	if err := d.sure(); err != nil {
		return false, err
	}
	d.cdb = [6]byte{byte(scsi.Write6), 0, byte(len(p) >> 16), byte(len(p) >> 8), byte(len(p) & 0xff), 0}
	n, err := d.act(scsi.Command{CDB: d.cdb[:], Dir: scsi.Out, Data: p, Timeout: data})
	if err == nil && n != len(p) {
		err = fmt.Errorf("the drive took %d bytes of a block of %d", n, len(p))
	}
	return d.wrote(err, 0)
}

// WriteFilemark ends a file. It does not wait for the medium, but makes sure
// that as many blocks and marks count as were written.
func (d *Drive) WriteFilemark() (early bool, err error) {
	if err := d.sure(); err != nil {
		return false, err
	}
	early, err = d.mark(true)
	if err != nil {
		return early, err
	}
	return early, d.check()
}

// mark writes a filemark.
func (d *Drive) mark(immed bool) (early bool, err error) {
	cdb := []byte{byte(scsi.WriteFilemarks6), 0, 0, 0, 1, 0}
	if immed {
		cdb[1] = 1
	}
	_, err = d.act(scsi.Command{CDB: cdb, Timeout: motion})
	return d.wrote(err, 1)
}

// Flush writes a filemark and waits until all is on the medium.
func (d *Drive) Flush(context.Context) (early bool, err error) {
	if err := d.sure(); err != nil {
		return false, err
	}
	early, err = d.mark(false)
	if err != nil {
		return early, err
	}
	return early, d.check()
}

// wrote judges the end of a command that writes a block, or a filemark.
func (d *Drive) wrote(err error, files uint64) (early bool, _ error) {
	s, said := scsi.AsSense(err)
	switch {
	case err == nil:
	case said && !s.Deferred && (s.Key == scsi.NoSense || s.Key == scsi.Recovered) && !(s.Valid && s.Info != 0):
		early = s.EOM || s.Code() == 0x0002 || s.Code() == 0x0007
	case said && !s.Deferred && s.Key == scsi.VolumeOverflow:
		// Nothing was written, and what was before can still be relied on.
		return false, errors.Join(err, d.check())
	default:
		d.doubt(err)
		return false, err
	}
	d.at.Object++
	if d.at.File += files; files > 0 {
		d.begin = d.at
	}
	return early, nil
}

// check makes sure that the drive stands where all that was written put it.
func (d *Drive) check() error {
	want := d.at
	if err := d.look(); err != nil {
		return err
	}
	if d.at != want {
		err := fmt.Errorf("the drive stands at object %d of file %d, and what was written ends at object %d of file %d: %w",
			d.at.Object, d.at.File, want.Object, want.File, tape.ErrSequence)
		d.doubt(err)
		return err
	}
	return nil
}

// Sync waits until all that was written is on the medium.
func (d *Drive) Sync(context.Context) error {
	if err := d.sure(); err != nil {
		return err
	}
	_, err := d.act(scsi.Command{CDB: []byte{byte(scsi.WriteFilemarks6), 0, 0, 0, 0, 0}, Timeout: motion})
	s, said := scsi.AsSense(err)
	if err != nil && !(said && !s.Deferred && (s.Key == scsi.NoSense || s.Key == scsi.Recovered)) {
		d.doubt(err)
		return fmt.Errorf("make sure that the data is on the tape: %w", err)
	}
	return d.check()
}

// EndOfData moves behind the last file.
func (d *Drive) EndOfData(ctx context.Context) (uint64, error) {
	if err := d.toEnd(); err != nil {
		return 0, err
	}
	if d.at.Object == 0 {
		return 0, nil
	}
	switch err := d.space(blocks, -1); {
	case err == nil: // a block: its file has no filemark
		if err := d.space(blocks, 1); err != nil {
			d.doubt(err)
			return 0, err
		}
		if _, err := d.Flush(ctx); err != nil {
			return 0, fmt.Errorf("write the filemark that the last file lacks: %w", err)
		}
	case errors.Is(err, tape.ErrFilemark):
		if err := d.space(marks, 1); err != nil {
			d.doubt(err)
			return 0, err
		}
	default:
		d.doubt(err)
		return 0, err
	}
	end := d.at
	if err := d.check(); err != nil {
		return 0, err
	}
	return end.File, nil
}

// toEnd moves to the end of the data.
func (d *Drive) toEnd() error {
	if err := d.space(dataEnd, 0); err != nil {
		d.doubt(err)
		return err
	}
	return d.look()
}

// LastFile moves to the beginning of the last file; tape.ErrEndOfData if there
// is none.
func (d *Drive) LastFile(ctx context.Context) (uint64, error) {
	n, err := d.EndOfData(ctx)
	switch {
	case err != nil:
		return 0, err
	case n == 0:
		return 0, fmt.Errorf("the tape has no file: %w", tape.ErrEndOfData)
	case n == 1:
		return 0, d.Rewind(ctx)
	}
	return n - 1, d.correct(n-1, 1)
}
