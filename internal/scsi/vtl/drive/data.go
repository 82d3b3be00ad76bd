package drive

import (
	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/cartridge"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/spc"
)

// Bits of byte 1 of READ and WRITE.
const (
	fixedBlocks     = 0x01
	suppressLengths = 0x02 // SILI
)

func (d *Drive) readBlockLimits(r *request) (int, error) {
	const most = cartridge.MaxBlock
	return copy(r.in, []byte{0, most >> 16 & 0xff, most >> 8 & 0xff, most & 0xff, 0, 1}), nil
}

func u24(b []byte) int { return int(b[0])<<16 | int(b[1])<<8 | int(b[2]) }

func (d *Drive) read(r *request) (int, error) {
	n := u24(r.cdb[2:])
	fixed, silent := r.cdb[1]&fixedBlocks != 0, r.cdb[1]&suppressLengths != 0
	switch {
	case fixed && (silent || d.options.blockLength == 0), !fixed && n > cartridge.MaxBlock:
		return 0, spc.BadField()
	case n == 0:
		return 0, nil
	case fixed:
		return d.readFixed(r, n)
	}
	if err := d.flush(); err != nil {
		return 0, err
	}
	o, err := d.readBlock(r.in[:min(len(r.in), n)], int64(n))
	if err != nil {
		return 0, err
	}
	got := min(o.Length, n, len(r.in))
	switch {
	case o.Length == n, silent && (o.Length < n || d.options.blockLength == 0):
		return got, nil
	}
	return got, otherLength(int64(n) - int64(o.Length))
}

func (d *Drive) readFixed(r *request, blocks int) (int, error) {
	if err := d.flush(); err != nil {
		return 0, err
	}
	moved, size := 0, d.options.blockLength
	for i := range blocks {
		left := int64(blocks - i)
		room := r.in[min(moved, len(r.in)):]
		o, err := d.readBlock(room[:min(len(room), size)], left)
		if err != nil {
			return moved, err
		}
		moved += min(o.Length, size, len(room))
		if o.Length != size {
			return moved, otherLength(left)
		}
	}
	return moved, nil
}

// readBlock reads the block at the position and moves behind it. left is what
// the sense says at a filemark and at the end of the data.
func (d *Drive) readBlock(p []byte, left int64) (cartridge.Object, error) {
	if d.pos >= d.cart.Objects() {
		return cartridge.Object{}, endOfData(left)
	}
	o, err := d.cart.ReadBlock(d.pos, p, d.crypt.reading())
	switch {
	case err != nil:
		return o, d.readError(err)
	case o.Mark:
		d.pos++
		return o, atFilemark(left)
	case !o.Encrypted && d.crypt.onlyEncrypted():
		return o, spc.Sense(scsi.DataProtect, 0x7402)
	}
	d.pos++
	d.usage.read(o.Length)
	return o, nil
}

func (d *Drive) write(r *request) (int, error) {
	n := u24(r.cdb[2:])
	blocks, size := 1, n
	if r.cdb[1]&fixedBlocks != 0 {
		blocks, size = n, d.options.blockLength
		if size == 0 {
			return 0, spc.BadField()
		}
	}
	switch {
	case size > cartridge.MaxBlock:
		return 0, spc.BadField()
	case n == 0:
		return 0, nil
	case len(r.out) < blocks*size:
		return 0, spc.BadLength()
	}
	if err := d.writable(); err != nil {
		return 0, err
	}
	for i := range blocks {
		left := int64(blocks - i)
		if blocks == 1 && r.cdb[1]&fixedBlocks == 0 {
			left = int64(size)
		}
		if err := d.writeBlock(r.out[i*size:(i+1)*size], left); err != nil {
			return i * size, err
		}
	}
	if !d.options.buffered {
		if err := d.flush(); err != nil {
			return 0, err
		}
	}
	if s := d.zone(); s != nil {
		return blocks * size, s
	}
	return blocks * size, nil
}

func (d *Drive) writeBlock(b []byte, left int64) error {
	if err := d.cut(); err != nil {
		return err
	}
	if d.cart.Used()+int64(len(b))+cartridge.Overhead > d.cart.Memory.Capacity {
		return overflow(left)
	}
	if err := d.cart.WriteBlock(d.pos, b, d.crypt.writing()); err != nil {
		return d.writeError(err)
	}
	d.pos++
	d.usage.write(len(b))
	return nil
}

// cut removes what is at the position and behind it, which is about to be
// overwritten.
func (d *Drive) cut() error {
	if err := d.cart.Truncate(d.pos); err != nil {
		return d.writeError(err)
	}
	return nil
}

func (d *Drive) writeFilemarks(r *request) (int, error) {
	n, immed := u24(r.cdb[2:]), r.cdb[1]&immediately != 0
	if r.cdb[1]&0x02 != 0 { // setmarks are gone since long
		return 0, spc.BadField()
	}
	if n > 0 {
		if err := d.writable(); err != nil {
			return 0, err
		}
		if err := d.cut(); err != nil {
			return 0, err
		}
	}
	for i := range n {
		if d.cart.Used()+cartridge.Overhead > d.cart.Memory.Capacity {
			return 0, overflow(int64(n - i))
		}
		if err := d.cart.WriteMark(d.pos); err != nil {
			return 0, d.writeError(err)
		}
		d.pos++
	}
	if !immed {
		if err := d.flush(); err != nil {
			return 0, err
		}
	}
	if n > 0 {
		if s := d.zone(); s != nil {
			return 0, s
		}
	}
	return 0, nil
}

// writable tells why nothing may be written at the position, if so.
func (d *Drive) writable() error {
	m := &d.cart.Memory
	switch {
	case m.WriteProtect:
		d.alerts.raise(alertProtected)
		return spc.Sense(scsi.DataProtect, 0x2700)
	case !d.writes(m.Density):
		return spc.Sense(scsi.DataProtect, 0x3005)
	case m.WORM && d.pos < d.cart.Objects():
		d.alerts.raise(alertOverwrite)
		return spc.Sense(scsi.DataProtect, 0x300c)
	}
	return nil
}

// zone is the sense for a write that ended in one of the zones before the end.
func (d *Drive) zone() *scsi.Sense {
	switch flags := d.zoneFlags(); {
	case flags&0x40 != 0:
		return &scsi.Sense{ASCQ: 0x02, EOM: true}
	case flags&0x01 != 0 && !d.options.warned:
		d.options.warned = true
		return &scsi.Sense{ASCQ: 0x07, EOM: true}
	case flags == 0:
		d.options.warned = false
	}
	return nil
}

// zoneFlags are the bits of READ POSITION at the end of the data: EOP in the
// early warning zone, BPEW in it and in the programmable one.
func (d *Drive) zoneFlags() byte {
	m := &d.cart.Memory
	switch used, early := d.cart.Used(), m.Capacity-m.EarlyWarning; {
	case used >= early:
		return 0x41
	case d.options.earlier > 0 && used >= early-d.options.earlier:
		return 0x01
	}
	return 0
}

func (d *Drive) erase(r *request) (int, error) {
	if err := d.writable(); err != nil {
		return 0, err
	}
	if err := d.flush(); err != nil {
		return 0, err
	}
	if err := d.cut(); err != nil {
		return 0, err
	}
	if r.cdb[1]&0x01 != 0 { // LONG
		d.take(doErase, d.cfg.Times.Erase, r.cdb[1]&0x02 != 0)
	}
	return 0, nil
}

func (d *Drive) formatMedium(r *request) (int, error) {
	switch {
	case r.cdb[2]&0x0f != 0: // partitions
		return 0, spc.BadField()
	case d.pos != 0:
		return 0, spc.Sense(scsi.IllegalRequest, 0x3b0c)
	}
	if err := d.writable(); err != nil {
		return 0, err
	}
	if err := d.cut(); err != nil {
		return 0, err
	}
	d.cart.Memory.Formatted++
	if err := d.cart.SaveMemory(); err != nil {
		return 0, d.diskError(err)
	}
	d.take(doFormat, d.cfg.Times.Format, r.cdb[1]&immediately != 0)
	return 0, nil
}
