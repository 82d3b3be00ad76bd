package drive

import (
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/spc"
)

const (
	pageStatus = 0x11 // of the device, with its activity
	mb         = 1_000_000
	mib        = 1 << 20 // what the chip of a cartridge counts in, and page 31
)

func (d *Drive) logSense(r *request) (int, error) {
	pages := []spc.LogPage{
		{Code: 0x02, Params: func() []spc.Parameter { return counters(d.usage.writeFailed, d.usage.written) }},
		{Code: 0x03, Params: func() []spc.Parameter { return counters(d.usage.readFailed, d.usage.reads) }},
		{Code: 0x0c, Params: d.logSequential},
		{Code: pageStatus, Params: d.logStatus},
		{Code: 0x12, Params: func() []spc.Parameter { return []spc.Parameter{spc.List(0, d.alerts.bits())} }},
	}
	if d.cfg.Generation >= 5 {
		pages = append(pages, spc.LogPage{Code: 0x17, Params: d.logVolume})
	}
	pages = append(pages,
		spc.LogPage{Code: 0x2e, Params: d.logAlerts},
		spc.LogPage{Code: 0x31, Params: d.logCapacity})
	return spc.LogSense(r.cdb, r.in, pages, d.answers)
}

// counters are the pages of errors.
func counters(failed uint64, moved int64) []spc.Parameter {
	return []spc.Parameter{
		spc.Count(0, 0, 4), // corrected without delay
		spc.Count(1, 0, 4), // with possible delays
		spc.Count(2, failed, 4),
		spc.Count(3, 0, 4), // corrected
		spc.Count(4, 0, 4), // times the correction ran
		spc.Count(5, uint64(moved), 8),
		spc.Count(6, failed, 4), // not corrected
	}
}

func (d *Drive) logSequential() []spc.Parameter {
	p := []spc.Parameter{
		spc.Count(0, uint64(d.usage.written), 8), // from hosts
		spc.Count(1, uint64(d.usage.written), 8), // to the medium
		spc.Count(2, uint64(d.usage.reads), 8),   // from the medium
		spc.Count(3, uint64(d.usage.reads), 8),   // to hosts
	}
	if d.threaded {
		m, used := &d.cart.Memory, d.cart.Used()
		p = append(p,
			spc.Count(4, uint64(used/mb), 4), // from the beginning to the end of the data
			spc.Count(5, uint64(m.Capacity-m.EarlyWarning)/mb, 4),
			spc.Count(6, uint64(m.EarlyWarning/mb), 4),
			spc.Count(7, uint64(d.cart.UsedTo(d.pos)/mb), 4))
	}
	cleaning := uint64(0)
	if d.alerts.has(alertCleanNow) || d.alerts.has(alertCleanPeriodic) {
		cleaning = 1
	}
	return append(p, spc.Count(0x100, cleaning, 4))
}

// logStatus is what the drive is busy with: the very high frequency data.
func (d *Drive) logStatus() []spc.Parameter {
	a := d.peek()
	if !a.until.IsZero() && !a.until.After(d.clock.Now()) {
		a.now = doNothing
	}
	b := make([]byte, 4)
	b[0] = 0x01 // the data is valid
	if d.cfg.Generation > 0 {
		b[0] |= 0x10 // CMPR: it compresses
	}
	if a.present {
		b[1] |= 0x10 // MPRSNT
	}
	if a.threaded {
		b[0] |= 0x20 // MACC: the medium can be used
		b[1] |= 0x20 | 0x07
	}
	if a.protected && a.threaded {
		b[0] |= 0x08
	}
	b[2] = byte(a.now)
	return []spc.Parameter{spc.List(0, b)}
}

// bits are the flags as page 12 has them: flag 1 first.
func (a *alerts) bits() []byte {
	b := make([]byte, 8)
	for n := range alert(64) {
		if a.has(n + 1) {
			b[n/8] |= 0x80 >> (n % 8)
		}
	}
	return b
}

// logAlerts tells the flags, and takes them down.
func (d *Drive) logAlerts() []spc.Parameter {
	var list []spc.Parameter
	for n := alert(1); n <= 64; n++ {
		up := byte(0)
		if d.alerts.has(n) {
			up = 1
		}
		list = append(list, spc.Parameter{Code: uint16(n), Control: 0x40, Value: []byte{up}})
	}
	d.alerts = 0
	return list
}

func (d *Drive) logCapacity() []spc.Parameter {
	var left, most uint64
	if d.threaded {
		m := &d.cart.Memory
		left, most = uint64(max(m.Capacity-d.cart.Used(), 0)/mib), uint64(m.Capacity/mib)
	}
	return []spc.Parameter{spc.Count(1, left, 4), spc.Count(2, 0, 4), spc.Count(3, most, 4), spc.Count(4, 0, 4)}
}

func (d *Drive) logVolume() []spc.Parameter {
	if !d.threaded {
		return []spc.Parameter{spc.Count(0, 0, 1)}
	}
	m, u := &d.cart.Memory, &d.usage
	flag := func(on bool) uint64 {
		if on {
			return 1
		}
		return 0
	}
	return []spc.Parameter{
		spc.Count(0x00, 1, 1), // the page is valid
		spc.Count(0x01, m.Loads, 4),
		spc.Count(0x02, u.blocksWritten, 8),
		spc.Count(0x03, 0, 4),
		spc.Count(0x04, u.writeFailed, 4),
		spc.Count(0x05, 0, 4),
		spc.Count(0x06, 0, 4),
		spc.Count(0x07, u.blocksRead, 8),
		spc.Count(0x08, 0, 4),
		spc.Count(0x09, u.readFailed, 4),
		spc.Count(0x0c, u.writeFailed, 4),
		spc.Count(0x0d, u.readFailed, 4),
		spc.Count(0x0e, uint64(u.written/mb), 4),
		spc.Count(0x0f, uint64(u.reads/mb), 4),
		spc.Count(0x10, uint64((m.Written+u.written)/mb), 8),
		spc.Count(0x11, uint64((m.Read+u.reads)/mb), 8),
		spc.Count(0x12, 100, 2),
		spc.Count(0x13, 100, 2),
		spc.Count(0x14, uint64(d.cfg.Times.Load.Milliseconds()), 6),
		spc.Count(0x15, uint64(d.cfg.Times.Load.Milliseconds()), 6),
		spc.Count(0x16, uint64(m.Capacity/mb), 4),
		spc.Count(0x17, uint64(d.cart.Used()/mb), 4),
		{Code: 0x40, Control: 0x01, Value: []byte(spc.Text(m.Serial, 32))},
		{Code: 0x42, Control: 0x01, Value: []byte(spc.Text(m.Barcode, 32))},
		spc.Count(0x80, flag(m.WriteProtect), 1),
		spc.Count(0x81, flag(m.WORM), 1),
		spc.Count(0x101, m.Loads, 4),
		spc.Count(0x102, m.Loads, 4),
	}
}
