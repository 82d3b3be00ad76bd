package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/volumeheader"
	"github.com/holdfast-backup/holdfast/internal/kernel/dm"
)

// MapOptions says how a volume is mapped. The zero value is useful.
type MapOptions struct {
	Options
	Prefix   string // of the name; empty: DefaultPrefix
	ReadOnly bool
	// ThrowAway keeps what is written apart from the volume, in a file without a
	// name in ScratchDir ("": a usual place) that may grow to ScratchSize bytes (0: that
	// of the payload). It goes with the mapping.
	ThrowAway   bool
	ScratchDir  string
	ScratchSize int64
	Now         func() time.Time // nil: the clock
}

// CheckName reports whether a volume can be mapped with this name; prefix as in
// [MapOptions].
func CheckName(name, prefix string) error { return checkName(name, prefixOr(prefix)) }

// Map makes the payload of a volume a device of its own, NAME below /dev/mapper. A volume
// that is mapped in just that way is left as it is. Its state becomes used, unless
// nothing can be written to it.
func Map(ctx context.Context, path, name string, o MapOptions) (Mapping, error) {
	if err := CheckName(name, o.Prefix); err != nil {
		return Mapping{}, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	m, err := openMapper()
	if err != nil {
		return Mapping{}, err
	}
	defer func() { _ = m.Close() }()
	l, err := lock(ctx, path, o.Options)
	if err != nil {
		return Mapping{}, err
	}
	defer l.close()
	i, err := l.mappable()
	if err != nil {
		return Mapping{}, err
	}
	if there, ok, err := l.mapped(m, name, i, o); ok || err != nil {
		return there, err
	}
	if err := l.prepare(&i.Header, o); err != nil {
		return Mapping{}, err
	}
	out := Mapping{
		Name: name, Node: dm.Path(name), Size: i.Payload(), ReadOnly: o.ReadOnly, ThrowAway: o.ThrowAway,
		Since: time.Unix(o.Now().Unix(), 0), Device: l.node, Header: i.Header,
	}
	if o.ThrowAway {
		return out, l.mapThrowAway(ctx, m, out, o)
	}
	_, err = m.Create(ctx, name, newUUID(out.Since), linearTable(l.rdev, i.Header.Start(), out.Size), o.ReadOnly)
	return out, l.explain(err)
}

// mappable reads the header, of a volume that is whole.
func (l *locked) mappable() (Info, error) {
	if l.rdev == 0 {
		return Info{}, fmt.Errorf("%s is a file, and only block devices can be mapped: 'losetup --find --show' makes it one", l.path)
	}
	i, err := l.info()
	if err != nil {
		return Info{}, err
	}
	switch r := i.Header.Record; {
	case i.Header.Hash.IsZero() || r != nil && r.State == volumeheader.Filling:
		return Info{}, fmt.Errorf("%s: %w: restore the snapshot again, which goes on where it stopped", l.path, ErrFilling)
	case i.Header.Start()%l.logical != 0:
		return Info{}, fmt.Errorf("%s has sectors of %d bytes, and the payload begins in the middle of one, at byte %d: it cannot be mapped",
			l.path, l.logical, i.Header.Start())
	}
	return i, nil
}

// mapped looks whether the name is taken, and by what.
func (l *locked) mapped(m mapper, name string, i Info, o MapOptions) (there Mapping, ok bool, err error) {
	all, err := m.List()
	if err != nil {
		return Mapping{}, false, err
	}
	there, ok, err = newLister(m).look(name, all)
	switch {
	case errors.Is(err, dm.ErrNotFound):
		return Mapping{}, false, nil
	case err != nil:
		return Mapping{}, false, err
	case !ok:
		return Mapping{}, false, fmt.Errorf("%s is the name of another device-mapper device: %w", name, dm.ErrExists)
	case there.Trouble != nil || there.Device != l.node || there.Size != i.Payload():
		return Mapping{}, false, fmt.Errorf("%s is the name of another volume, on %s: %w", name, there.Device, dm.ErrExists)
	case there.ReadOnly != o.ReadOnly || there.ThrowAway != o.ThrowAway:
		return Mapping{}, false, fmt.Errorf("%s is mapped already, and in another way: unmap it first: %w", name, dm.ErrExists)
	}
	return there, true, nil
}

// prepare makes sure that nothing else has the device, and notes in the header that
// a guest may write to it.
func (l *locked) prepare(h *volumeheader.Header, o MapOptions) error {
	if o.ReadOnly || o.ThrowAway || h.Record == nil || h.Record.State == volumeheader.Used {
		flag := os.O_RDONLY
		if !o.ReadOnly && !o.ThrowAway {
			flag = os.O_RDWR
		}
		f, err := l.exclusive(flag)
		if err != nil {
			return err
		}
		return f.Close()
	}
	dev, err := l.claim()
	if err != nil {
		return err
	}
	r := *h.Record
	r.State, r.Changed = volumeheader.Used, o.Now().Unix()
	sector, err := readSector(dev)
	if err == nil {
		*h = volumeheader.Full(r)
		err = writeHeader(dev, sector, *h)
	}
	return errors.Join(err, dev.Close())
}

// explain says who has the device, if that is the reason.
func (l *locked) explain(err error) error {
	if errors.Is(err, dm.ErrBusy) {
		return errors.Join(l.busy(), err)
	}
	return err
}
