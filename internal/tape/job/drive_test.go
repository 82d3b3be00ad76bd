package job

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/tape"
)

// errPower is what every call answers after the power failed.
var errPower = errors.New("the power failed")

// cartridge is a tape in memory: blocks, and nil for filemarks.
type cartridge struct {
	barcode  string
	data     [][]byte
	keys     []string // of each object, "" for what is not encrypted
	safe     int      // so many objects are on the tape, the others in the buffer of the drive
	early    int      // blocks from which on the drive warns; 0: never
	capacity int      // blocks that fit; 0: no limit
	damaged  map[int]bool
}

// power fails after so many calls that change a tape.
type power struct {
	left int // negative: never
	off  bool
}

func (p *power) use() error {
	if p.off || p.left == 0 {
		p.off = true
		return errPower
	}
	if p.left > 0 {
		p.left--
	}
	return nil
}

// library is a changer with one drive, in memory.
type library struct {
	slots []*cartridge
	drive *cartridge
	from  int // slot of the one in the drive
	power *power
	opens int
	open  bool
	moves int

	alerts tape.Alerts
}

func newLibrary(tapes ...*cartridge) *library {
	l := &library{power: &power{left: -1}}
	l.slots = append(l.slots, tapes...)
	l.slots = append(l.slots, nil, nil)
	return l
}

// restart is the library after the power came back: what was in buffers is gone.
func (l *library) restart() {
	for _, c := range append(slices.Clone(l.slots), l.drive) {
		if c != nil {
			c.data, c.keys = c.data[:c.safe], c.keys[:c.safe]
		}
	}
	l.power, l.open = &power{left: -1}, false
}

func (l *library) Status(context.Context) (tape.ChangerStatus, error) {
	st := tape.ChangerStatus{Drives: make([]tape.DriveElement, 1), Slots: make([]tape.Slot, len(l.slots))}
	for i, c := range l.slots {
		if c != nil {
			st.Slots[i].Content = tape.Content{Full: true, Label: c.barcode}
		}
	}
	st.Slots[len(l.slots)-1].ImportExport = true
	if l.drive != nil {
		st.Drives[0] = tape.DriveElement{Content: tape.Content{Full: true, Label: l.drive.barcode}, From: l.from}
	}
	return st, nil
}

func (l *library) Load(_ context.Context, slot, drive int) error {
	if l.open || l.drive != nil || drive != 0 || l.slots[slot-1] == nil {
		return fmt.Errorf("load slot %d: the drive is open, or not empty, or the slot is", slot)
	}
	l.drive, l.slots[slot-1], l.from = l.slots[slot-1], nil, slot
	l.moves++
	return nil
}

func (l *library) Unload(_ context.Context, _, slot int) error {
	if l.open || l.drive == nil || l.slots[slot-1] != nil {
		return fmt.Errorf("unload to slot %d: the drive is open or empty, or the slot full", slot)
	}
	l.slots[slot-1], l.drive = l.drive, nil
	l.moves++
	return nil
}

func (l *library) Transfer(_ context.Context, from, to int) error {
	if l.slots[from-1] == nil || l.slots[to-1] != nil {
		return fmt.Errorf("transfer from %d to %d", from, to)
	}
	l.slots[to-1], l.slots[from-1] = l.slots[from-1], nil
	return nil
}

func (l *library) Close() error { return nil }

// memDrive is the drive of a library.
type memDrive struct {
	l   *library
	c   *cartridge
	pos int
	key *tape.KeyOf
}

var _ tape.Drive = (*memDrive)(nil)

func (l *library) openDrive(context.Context) (tape.Drive, error) {
	switch {
	case l.power.off:
		return nil, errPower
	case l.open:
		return nil, tape.ErrBusy
	case l.drive == nil:
		return nil, tape.ErrNoMedium
	}
	l.open = true
	l.opens++
	return &memDrive{l: l, c: l.drive}, nil
}

func (d *memDrive) Rewind(context.Context) error {
	d.pos = 0
	return nil
}

func (d *memDrive) Locate(_ context.Context, file uint64) error {
	d.pos = 0
	for n := uint64(0); n < file; n++ {
		i := slices.IndexFunc(d.c.data[d.pos:], func(b []byte) bool { return b == nil })
		if i < 0 {
			return tape.ErrEndOfData
		}
		d.pos += i + 1
	}
	return nil
}

func (d *memDrive) EndOfData(ctx context.Context) (uint64, error) {
	if n := len(d.c.data); n > 0 && d.c.data[n-1] != nil {
		d.pos = n
		if _, err := d.WriteFilemark(); err != nil {
			return 0, err
		}
	}
	d.pos = len(d.c.data)
	return d.File(ctx)
}

func (d *memDrive) File(context.Context) (uint64, error) {
	n := uint64(0)
	for _, b := range d.c.data[:d.pos] {
		if b == nil {
			n++
		}
	}
	return n, nil
}

func (d *memDrive) ReadBlock(p []byte) (int, error) {
	if d.pos >= len(d.c.data) {
		return 0, tape.ErrEndOfData
	}
	b := d.c.data[d.pos]
	if d.c.damaged[d.pos] {
		b = slices.Clone(b)
		b[len(b)/2] ^= 1
		b[100] ^= 1
	}
	if k := d.c.keys[d.pos]; b != nil && k != "" && k != d.keyName() {
		return 0, tape.ErrKey
	}
	d.pos++
	if b == nil {
		return 0, tape.ErrFilemark
	}
	return copy(p, b), nil
}

// put appends an object where the drive stands; what was behind it is gone.
func (d *memDrive) put(b []byte) (early bool, err error) {
	if err := d.l.power.use(); err != nil {
		return false, err
	}
	n := 0
	for _, b := range d.c.data[:d.pos] {
		if b != nil {
			n++
		}
	}
	if d.c.capacity > 0 && n >= d.c.capacity && b != nil {
		return false, tape.ErrFull
	}
	d.c.data, d.c.keys = append(d.c.data[:d.pos], b), append(d.c.keys[:d.pos], d.keyName())
	d.c.safe = min(d.c.safe, d.pos)
	d.pos++
	if b != nil {
		n++
	}
	return d.c.early > 0 && n >= d.c.early, nil
}

func (d *memDrive) WriteBlock(p []byte) (bool, error) { return d.put(slices.Clone(p)) }

func (d *memDrive) WriteFilemark() (bool, error) { return d.put(nil) }

func (d *memDrive) Sync(context.Context) error {
	if err := d.l.power.use(); err != nil {
		return err
	}
	d.c.safe = len(d.c.data)
	return nil
}

func (d *memDrive) Format(context.Context, bool) error {
	if err := d.l.power.use(); err != nil {
		return err
	}
	d.c.data, d.c.keys, d.c.safe, d.pos = nil, nil, 0, 0
	return nil
}

func (d *memDrive) Eject(context.Context) error {
	d.l.slots[d.l.from-1], d.l.drive = d.l.drive, nil
	return nil
}

func (d *memDrive) keyName() string {
	if d.key == nil {
		return ""
	}
	return d.key.Fingerprint.String() + d.key.MediaSet.String()
}

func (d *memDrive) Encrypt(_ context.Context, k *tape.KeyOf) error {
	d.key = k
	return nil
}

func (d *memDrive) Alerts(context.Context) (tape.Alerts, error) { return d.l.alerts, nil }

func (d *memDrive) Close() error {
	d.l.open = false
	return nil
}
