package lto

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-backup/holdfast/internal/cancel"
	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/tape"
)

// Position is where a drive stands.
type Position struct {
	Object uint64 // blocks and filemarks before it
	File   uint64 // filemarks before it
}

// Position asks the drive where it stands.
func (d *Drive) Position() (Position, error) {
	var b [32]byte
	n, err := d.ask(scsi.Command{CDB: []byte{byte(scsi.ReadPosition), 0x06, 0, 0, 0, 0, 0, 0, 0, 0}, Dir: scsi.In, Data: b[:], Timeout: quick})
	if err != nil {
		return Position{}, err
	}
	switch {
	case n < len(b):
		return Position{}, fmt.Errorf("READ POSITION: %d bytes came, not %d", n, len(b))
	case b[0]&0x0c != 0: // MPU, LONU
		return Position{}, errors.New("the drive does not know its position")
	case binary.BigEndian.Uint32(b[4:]) != 0:
		return Position{}, errors.New("the tape has partitions, and the drive stands in another one than the first")
	}
	return Position{binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:])}, nil
}

// look finds out where the drive stands after a motion.
func (d *Drive) look() error {
	p, err := d.Position()
	if err != nil {
		d.doubt(err)
		return err
	}
	d.at, d.unsure = p, nil
	return nil
}

// File is the number of the file at the position.
func (d *Drive) File(context.Context) (uint64, error) {
	if err := d.sure(); err != nil {
		return 0, err
	}
	if err := d.look(); err != nil {
		return 0, err
	}
	return d.at.File, nil
}

// Rewind moves to the beginning.
func (d *Drive) Rewind(ctx context.Context) error {
	_, err := d.act(scsi.Command{CDB: []byte{byte(scsi.Rewind), 0, 0, 0, 0, 0}, Timeout: motion})
	if err != nil && !says(err, scsi.NoSense, 0x001a) {
		d.doubt(err)
		return err
	}
	// Some drives end the command early, and say where they are on the way.
	for start := time.Now(); ; {
		err := d.look()
		switch {
		case err == nil && d.at.Object == 0:
			d.begin = d.at
			return nil
		case err != nil && !says(err, scsi.NoSense, 0x001a) && !underway(err):
			return err
		case time.Since(start) > longestRewind:
			return errors.Join(fmt.Errorf("the tape was not rewound after %v", longestRewind), err)
		}
		d.doubt(errors.New("the tape is being rewound"))
		if err := cancel.Sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// underway reports whether the drive is only busy.
func underway(err error) bool {
	s, ok := scsi.AsSense(err)
	return ok && s.Key == scsi.NotReady && s.ASC == 0x04
}

// What SPACE moves over.
const (
	blocks  = 0
	marks   = 1
	dataEnd = 3
)

// space moves, and does not look where to.
func (d *Drive) space(over byte, n int64) error {
	cdb := []byte{byte(scsi.Space6), over, byte(n >> 16), byte(n >> 8), byte(n), 0}
	if n != n<<40>>40 {
		cdb = []byte{byte(scsi.Space16), over, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
		binary.BigEndian.PutUint64(cdb[4:], uint64(n))
	}
	_, err := d.act(scsi.Command{CDB: cdb, Timeout: motion})
	if s, ok := scsi.AsSense(err); ok && !s.Deferred && s.Key == scsi.NoSense && (s.Filemark || s.Code() == 0x0001) {
		return fmt.Errorf("%w: %w", tape.ErrFilemark, err)
	}
	return err
}

// SpaceFiles moves over n filemarks: behind the last of them forward, before it
// backward, n < 0. Where there are fewer, it is an error, and the drive stands
// at the end of the data or at the beginning.
func (d *Drive) SpaceFiles(_ context.Context, n int64) error { return d.spaceAndLook(marks, n) }

// SpaceBlocks moves over n blocks, backward if n < 0. A filemark ends it with
// tape.ErrFilemark, and was passed over.
func (d *Drive) SpaceBlocks(_ context.Context, n int64) error { return d.spaceAndLook(blocks, n) }

func (d *Drive) spaceAndLook(over byte, n int64) error {
	if err := d.sure(); err != nil {
		return err
	}
	err := d.space(over, n)
	if _, unknown := errors.AsType[*scsi.TransportError](err); unknown || d.lost != nil {
		return err
	}
	return errors.Join(err, d.look())
}
