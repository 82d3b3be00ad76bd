package drive

import (
	"encoding/binary"
	"errors"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/cartridge"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/spc"
)

func (d *Drive) rewind(r *request) (int, error) {
	return 0, d.windTo(0, doRewind, r.cdb[1]&immediately != 0)
}

// windTo moves to a position that exists.
func (d *Drive) windTo(pos uint64, what doing, immed bool) error {
	if err := d.flush(); err != nil {
		return err
	}
	takes := d.windTime(d.pos, pos)
	d.pos = pos
	d.take(what, takes, immed)
	return nil
}

// Codes of SPACE.
const (
	spaceBlocks = 0
	spaceMarks  = 1
	spaceEnd    = 3
)

func (d *Drive) space(r *request) (int, error) {
	code := r.cdb[1] & 0x0f
	n := int64(int32(uint32(r.cdb[2])<<24|uint32(r.cdb[3])<<16|uint32(r.cdb[4])<<8)) >> 8
	if scsi.Opcode(r.cdb[0]) == scsi.Space16 {
		n = int64(binary.BigEndian.Uint64(r.cdb[4:]))
	}
	// A number that no medium has objects for leads to the same place as a
	// larger one, and lets the sums below stay within their type.
	const most = 1 << 48
	n = min(max(n, -most), most)
	var to uint64
	var s *scsi.Sense
	var err error
	switch code {
	case spaceBlocks:
		to, s, err = d.overBlocks(n)
	case spaceMarks:
		to, s, err = d.overMarks(n)
	case spaceEnd:
		to = d.cart.Objects()
	default:
		return 0, spc.BadField()
	}
	if err != nil {
		return 0, d.diskError(err)
	}
	if err := d.windTo(to, doLocate, false); err != nil {
		return 0, err
	}
	if s != nil {
		return 0, s
	}
	return 0, nil
}

// overBlocks finds where spacing over n blocks ends, and what is said there.
func (d *Drive) overBlocks(n int64) (to uint64, s *scsi.Sense, err error) {
	files, err := d.cart.FilesAt(d.pos)
	if err != nil {
		return 0, nil, err
	}
	if n >= 0 {
		to = d.pos + uint64(n)
		mark, err := d.cart.FindMark(files)
		switch {
		case err == nil && mark < to:
			return mark + 1, atFilemark(int64(to - mark)), nil
		case err != nil && !errors.Is(err, cartridge.ErrEndOfData):
			return 0, nil, err
		}
		if end := d.cart.Objects(); to > end {
			return end, endOfData(int64(to - end)), nil
		}
		return to, nil, nil
	}
	back := uint64(-n)
	if files > 0 {
		mark, err := d.cart.FindMark(files - 1)
		if err != nil {
			return 0, nil, err
		}
		if over := d.pos - mark - 1; over < back {
			return mark, atFilemark(int64(back - over)), nil
		}
	}
	if back > d.pos {
		return 0, atBeginning(int64(back - d.pos)), nil
	}
	return d.pos - back, nil, nil
}

// overMarks finds where spacing over n filemarks ends.
func (d *Drive) overMarks(n int64) (to uint64, s *scsi.Sense, err error) {
	files, err := d.cart.FilesAt(d.pos)
	if err != nil {
		return 0, nil, err
	}
	switch marks := d.cart.Marks(); {
	case n == 0:
		return d.pos, nil, nil
	case n > 0 && files+uint64(n) > marks:
		return d.cart.Objects(), endOfData(int64(files + uint64(n) - marks)), nil
	case n > 0:
		to, err = d.cart.FindMark(files + uint64(n) - 1)
		return to + 1, nil, err
	case uint64(-n) > files:
		return 0, atBeginning(-n - int64(files)), nil
	}
	to, err = d.cart.FindMark(files - uint64(-n))
	return to, nil, err
}

// Kinds of destinations of LOCATE(16), in bits 3 to 5 of byte 1.
const (
	locateObject = 0
	locateFile   = 1
	locateEnd    = 3
)

func (d *Drive) locate(r *request) (int, error) {
	if r.cdb[1]&0x02 != 0 && r.cdb[3] != 0 { // there is one partition
		return 0, spc.BadField()
	}
	n := binary.BigEndian.Uint64(r.cdb[4:])
	end := d.cart.Objects()
	to, found := end, true
	switch r.cdb[1] >> 3 & 0x07 {
	case locateObject:
		to, found = min(n, end), n <= end
	case locateFile:
		if d.cfg.Quirks.NoLocateFile {
			return 0, spc.BadField()
		}
		mark, err := d.fileStart(n)
		switch {
		case errors.Is(err, cartridge.ErrEndOfData):
			found = false
		case err != nil:
			return 0, d.diskError(err)
		default:
			to = mark
		}
	case locateEnd:
	default:
		return 0, spc.BadField()
	}
	if err := d.windTo(to, doLocate, r.cdb[1]&immediately != 0); err != nil {
		return 0, err
	}
	if !found {
		s := endOfData(0)
		s.Valid = false
		return 0, s
	}
	return 0, nil
}

// fileStart is where LOCATE of a file stops. Drives of IBM count one filemark
// more than those of HP: for file 1 they stop where file 2 begins.
func (d *Drive) fileStart(n uint64) (uint64, error) {
	if d.cfg.HP {
		if n == 0 {
			return 0, nil
		}
		n--
	}
	mark, err := d.cart.FindMark(n)
	return mark + 1, err
}

// Forms of READ POSITION.
const (
	positionShort       = 0x00
	positionShortVendor = 0x01
	positionLong        = 0x06
	positionExtended    = 0x08
)

func (d *Drive) readPosition(r *request) (int, error) {
	files, err := d.cart.FilesAt(d.pos)
	if err != nil {
		return 0, d.diskError(err)
	}
	var flags byte
	if d.pos == 0 {
		flags |= 0x80 // BOP
	}
	if d.pos == d.cart.Objects() {
		flags |= d.zoneFlags()
	}
	waiting := uint64(d.cart.Pending())
	be := binary.BigEndian
	switch r.cdb[1] & 0x1f {
	case positionShort, positionShortVendor:
		b := make([]byte, 20)
		b[0] = flags
		if d.pos > 0xffffffff {
			b[0] |= 0x02 // PERR: the numbers do not fit
		} else {
			be.PutUint32(b[4:], uint32(d.pos))
			be.PutUint32(b[8:], uint32(d.pos-waiting))
		}
		b[13], b[14], b[15] = byte(waiting>>16), byte(waiting>>8), byte(waiting)
		be.PutUint32(b[16:], uint32(min(d.cart.PendingBytes(), 0xffffffff)))
		return copy(r.in, b), nil
	case positionLong:
		b := make([]byte, 32)
		b[0] = flags
		be.PutUint64(b[8:], d.pos)
		be.PutUint64(b[16:], files)
		return copy(r.in, b), nil
	case positionExtended:
		b := make([]byte, 32)
		b[0], b[3] = flags, 28
		b[5], b[6], b[7] = byte(waiting>>16), byte(waiting>>8), byte(waiting)
		be.PutUint64(b[8:], d.pos)
		be.PutUint64(b[16:], d.pos-waiting)
		be.PutUint64(b[24:], uint64(d.cart.PendingBytes()))
		return d.answers.Put(r.in, b, int(be.Uint16(r.cdb[7:]))), nil
	}
	return 0, spc.BadField()
}
