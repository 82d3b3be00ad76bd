package drive

import (
	"errors"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/cartridge"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/spc"
)

// ErrOccupied is returned by Insert when there is a cartridge already, ErrEmpty
// by Remove when there is none, and ErrPrevented when it is locked in.
var (
	ErrOccupied  = errors.New("a cartridge is in the drive")
	ErrEmpty     = errors.New("no cartridge is in the drive")
	ErrPrevented = errors.New("the drive is told not to give the cartridge out")
)

// Insert puts a cartridge into the drive, which owns it until Remove.
func (d *Drive) Insert(c *cartridge.Cartridge) error {
	d.run.Lock()
	defer d.run.Unlock()
	if d.cart != nil {
		return ErrOccupied
	}
	d.cart = c
	d.update(func(a *activity) { a.present = true })
	if !d.cfg.Quirks.ManualLoad {
		d.thread()
		d.attention.Add(spc.MediumChanged)
	}
	return nil
}

// Remove takes the cartridge out, unthreading it first.
func (d *Drive) Remove() (*cartridge.Cartridge, error) {
	d.run.Lock()
	defer d.run.Unlock()
	d.await()
	switch {
	case d.cart == nil:
		return nil, ErrEmpty
	case d.peek().prevented:
		return nil, ErrPrevented
	}
	if err := d.unthread(); err != nil {
		return nil, err
	}
	c := d.cart
	d.cart = nil
	d.update(func(a *activity) { a.present = false })
	return c, nil
}

// State tells whether a medium is threaded, and whether the drive was told to
// hold it back. It does not wait for the command that runs.
func (d *Drive) State() (threaded, prevented bool) {
	a := d.peek()
	return a.threaded, a.prevented
}

// PowerCut takes the power away and gives it back. Of what is in the buffer, the
// first keep objects are on the medium.
func (d *Drive) PowerCut(keep int) error {
	d.run.Lock()
	defer d.run.Unlock()
	var err error
	if d.cart != nil {
		err = d.cart.Lose(keep)
		d.threaded = false
		d.update(func(a *activity) { a.threaded = false })
	}
	d.switchOn()
	if d.cart != nil && !d.cfg.Quirks.ManualLoad {
		d.thread()
	}
	return err
}

// Defer makes the drive tell of an error in something it took earlier: the next
// command is not carried out, and answered with it.
func (d *Drive) Defer(s scsi.Sense) {
	d.run.Lock()
	defer d.run.Unlock()
	s.Deferred = true
	d.deferred = &s
}

// Close flushes what is in the buffer and closes the cartridge.
func (d *Drive) Close() error {
	d.run.Lock()
	defer d.run.Unlock()
	if d.cart == nil {
		return nil
	}
	err := errors.Join(d.unthread(), d.cart.Close())
	d.cart = nil
	return err
}

// thread begins to make the cartridge ready.
func (d *Drive) thread() {
	m := &d.cart.Memory
	if m.Cleaning {
		d.clean(m)
		return
	}
	if !d.reads(m.Density) {
		d.alerts.raise(alertFormat)
		return
	}
	d.threaded, d.pos = true, 0
	m.Loads++
	name := spc.Text(d.id.Vendor, 8) + d.id.Serial
	m.Drives = append([]string{name}, m.Drives[:min(len(m.Drives), 3)]...)
	d.usage.load()
	d.alerts.clear(alertFormat)
	d.update(func(a *activity) { a.threaded, a.protected = true, m.WriteProtect })
	d.begin(doLoad, d.cfg.Times.Load)
}

// clean lets a cleaning cartridge work.
func (d *Drive) clean(m *cartridge.Memory) {
	if m.Uses == 0 {
		d.alerts.raise(alertCleanExpired)
		return
	}
	m.Uses--
	m.Loads++
	d.alerts.clear(alertCleanNow)
	d.alerts.clear(alertCleanPeriodic)
	d.begin(doClean, d.cfg.Times.Clean)
}

// unthread rewinds and lets the cartridge come out.
func (d *Drive) unthread() error {
	if !d.threaded {
		return d.cart.SaveMemory() // of one that cleaned
	}
	err := d.flush()
	d.sleep(doUnload, d.windTime(d.pos, 0)+d.cfg.Times.Unload)
	d.usage.unload(&d.cart.Memory)
	d.threaded, d.pos = false, 0
	if d.crypt.clearOnDemount {
		d.crypt.clear()
	}
	d.update(func(a *activity) { a.threaded = false })
	return errors.Join(err, d.cart.SaveMemory())
}

// ready tells why there is no medium to work on, if so.
func (d *Drive) ready() error {
	switch now := d.busyWith(); {
	case now == doLoad:
		return spc.Sense(scsi.NotReady, 0x0401)
	case now == doFormat:
		return spc.Sense(scsi.NotReady, 0x0404)
	case now == doErase:
		return spc.Sense(scsi.NotReady, 0x0407)
	case now == doClean:
		return spc.Sense(scsi.NotReady, 0x3003)
	case d.threaded:
		return nil
	case d.cart != nil && !d.cart.Memory.Cleaning && !d.reads(d.cart.Memory.Density):
		return spc.Sense(scsi.NotReady, 0x3000)
	}
	return spc.Sense(scsi.NotReady, 0x3a00)
}

func (d *Drive) testUnitReady(*request) (int, error) { return 0, d.ready() }

func (d *Drive) requestSense(r *request) (int, error) {
	s := d.attention.Next()
	if s == nil {
		s, d.deferred = d.deferred, nil
	}
	if s == nil {
		switch d.busyWith() {
		case doRewind:
			s = spc.Sense(scsi.NoSense, 0x001a)
		case doErase:
			s = spc.Sense(scsi.NoSense, 0x0018)
		case doLocate:
			s = spc.Sense(scsi.NoSense, 0x0019)
		case doLoad, doFormat, doClean:
			s, _ = scsi.AsSense(d.ready())
		}
	}
	return spc.RequestSense(r.cdb, r.in, s, d.answers)
}

// Bits of LOAD UNLOAD.
const (
	immediately = 0x01 // byte 1: the command ends before its work
	wantLoad    = 0x01 // byte 4
	wantEOT     = 0x04
)

func (d *Drive) loadUnload(r *request) (int, error) {
	immed := r.cdb[1]&immediately != 0
	switch load := r.cdb[4]&wantLoad != 0; {
	case r.cdb[4]&wantEOT != 0:
		return 0, spc.BadField()
	case d.cart == nil:
		return 0, spc.Sense(scsi.NotReady, 0x3a00)
	case load:
		return 0, d.load(immed)
	case d.peek().prevented:
		return 0, spc.Sense(scsi.IllegalRequest, 0x5302)
	}
	d.await()
	if err := d.unthread(); err != nil {
		return 0, d.diskError(err)
	}
	return 0, nil
}

func (d *Drive) load(immed bool) error {
	if d.threaded {
		d.await()
		return d.windTo(0, doRewind, immed)
	}
	d.thread()
	if !immed {
		d.await()
	}
	return d.ready()
}

func (d *Drive) prevent(r *request) (int, error) {
	if r.cdb[4] > 1 {
		return 0, spc.BadField()
	}
	d.update(func(a *activity) { a.prevented = r.cdb[4] == 1 })
	return 0, nil
}
