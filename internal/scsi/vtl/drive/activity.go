package drive

import "time"

// doing is what a drive is busy with, in the numbers of log page 11.
type doing byte

const (
	doNothing        doing = 0x00
	doClean          doing = 0x01
	doLoad           doing = 0x02
	doUnload         doing = 0x03
	doRead           doing = 0x05
	doWrite          doing = 0x06
	doLocate         doing = 0x07
	doRewind         doing = 0x08
	doErase          doing = 0x09
	doFormat         doing = 0x0a
	doReadEncrypted  doing = 0x0e
	doWriteEncrypted doing = 0x0f
)

// activity is what others may see while a command runs.
type activity struct {
	now                                     doing
	until                                   time.Time // of what goes on after its command ended
	present, threaded, protected, prevented bool
}

func (d *Drive) update(change func(a *activity)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(&d.activity)
}

func (d *Drive) peek() activity {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.activity
}

// begin starts something that goes on after its command has ended.
func (d *Drive) begin(what doing, takes time.Duration) {
	if takes > 0 {
		until := d.clock.Now().Add(takes)
		d.update(func(a *activity) { a.now, a.until = what, until })
	}
}

// sleep does something within its command.
func (d *Drive) sleep(what doing, takes time.Duration) {
	if takes <= 0 {
		return
	}
	d.update(func(a *activity) { a.now, a.until = what, time.Time{} })
	d.clock.Sleep(takes)
	d.update(func(a *activity) { a.now = doNothing })
}

// take is begin or sleep.
func (d *Drive) take(what doing, takes time.Duration, immed bool) {
	if immed {
		d.begin(what, takes)
	} else {
		d.sleep(what, takes)
	}
}

// settle ends what has gone on long enough.
func (d *Drive) settle() {
	now := d.clock.Now()
	d.update(func(a *activity) {
		if !a.until.IsZero() && !a.until.After(now) {
			a.now, a.until = doNothing, time.Time{}
		}
	})
}

// await waits for the end of what goes on.
func (d *Drive) await() {
	if a := d.peek(); !a.until.IsZero() {
		d.clock.Sleep(a.until.Sub(d.clock.Now()))
		d.update(func(a *activity) { a.now, a.until = doNothing, time.Time{} })
	}
}

// busyWith is what goes on since an earlier command.
func (d *Drive) busyWith() doing {
	if a := d.peek(); !a.until.IsZero() {
		return a.now
	}
	return doNothing
}
