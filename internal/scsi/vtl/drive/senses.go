package drive

import (
	"errors"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/cartridge"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/spc"
)

func atFilemark(left int64) *scsi.Sense {
	return &scsi.Sense{ASCQ: 0x01, Filemark: true, Info: left, Valid: true}
}

func endOfData(left int64) *scsi.Sense {
	return &scsi.Sense{Key: scsi.BlankCheck, ASCQ: 0x05, Info: left, Valid: true}
}

func atBeginning(left int64) *scsi.Sense {
	return &scsi.Sense{ASCQ: 0x04, EOM: true, Info: left, Valid: true}
}

func otherLength(difference int64) *scsi.Sense {
	return &scsi.Sense{ILI: true, Info: difference, Valid: true}
}

func overflow(left int64) *scsi.Sense {
	return &scsi.Sense{Key: scsi.VolumeOverflow, ASCQ: 0x02, EOM: true, Info: left, Valid: true}
}

// readError is what a drive says of an error of the cartridge while reading.
func (d *Drive) readError(err error) error {
	switch {
	case errors.Is(err, cartridge.ErrNoKey):
		return spc.Sense(scsi.DataProtect, 0x7401)
	case errors.Is(err, cartridge.ErrKey):
		return spc.Sense(scsi.DataProtect, 0x7403)
	}
	d.usage.readFailed++
	if _, corrupt := errors.AsType[*cartridge.CorruptError](err); corrupt {
		d.alerts.raise(alertRead)
		return spc.Sense(scsi.MediumError, 0x1100)
	}
	return d.diskError(err)
}

// writeError is what it says while writing: of earlier commands where what they
// wrote is lost too. A disk that is full is no medium that is full: another
// cartridge would not help.
func (d *Drive) writeError(error) error {
	d.usage.writeFailed++
	d.alerts.raise(alertWrite)
	s := spc.Sense(scsi.MediumError, 0x0c00)
	s.Deferred = d.cart.Pending() > 1
	return s
}

// diskError is what it says where neither is told apart.
func (d *Drive) diskError(err error) error {
	if s, ok := scsi.AsSense(err); ok {
		return s
	}
	d.alerts.raise(alertHardware)
	return spc.Sense(scsi.HardwareError, 0x4400)
}

// flush writes what is in the buffer.
func (d *Drive) flush() error {
	if err := d.cart.Flush(); err != nil {
		return d.writeError(err)
	}
	return nil
}
