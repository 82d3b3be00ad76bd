package vtl

import (
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast/internal/scsi/target"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/cartridge"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/changer"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/drive"
)

// Unit is one of the units of a library.
type Unit struct {
	Name   string // "changer", or "drive0" and so on
	Serial string
	target.Unit
}

// medium is a cartridge as the changer sees it.
func medium(name string, m cartridge.Memory) changer.Medium {
	out := changer.Medium{Name: name, Barcode: m.Barcode, Kind: changer.Data}
	switch {
	case m.Cleaning:
		out.Kind = changer.Cleaning
	case m.WORM:
		out.Kind = changer.WORM
	}
	return out
}

func (l *Library) makeDrives(o Options) error {
	for _, c := range l.cfg.Drives {
		t := c.Times
		cfg := drive.Config{
			Generation: c.Generation, Serial: c.Serial, HP: c.HP, Revision: c.Revision, Quirks: c.Quirks,
			Times: drive.Times{
				Load: time.Duration(t.Load), Unload: time.Duration(t.Unload), Wind: time.Duration(t.Wind),
				Erase: time.Duration(t.Erase), Format: time.Duration(t.Format), Clean: time.Duration(t.Clean),
			},
		}
		if o.Clock != nil {
			cfg.Clock = o.Clock
		}
		d, err := drive.New(cfg)
		if err != nil {
			return err
		}
		l.drives = append(l.drives, d)
	}
	return nil
}

func (l *Library) makeChanger(o Options, places []changer.Place, media map[string]changer.Medium) (err error) {
	c := l.cfg.Changer
	if c.Slots == 0 {
		return nil
	}
	cfg := changer.Config{
		Vendor: c.Vendor, Product: c.Product, Revision: c.Revision, Serial: c.Serial,
		Slots: c.Slots, ImportExport: c.ImportExport, Quirks: c.Quirks,
		Times: changer.Times{Move: time.Duration(c.Move), Inventory: time.Duration(c.Inventory)},
	}
	if o.Clock != nil {
		cfg.Clock = o.Clock
	}
	for _, d := range l.drives {
		cfg.Drives = append(cfg.Drives, d)
	}
	l.changer, err = changer.New(cfg, vault{l}, places, media)
	return err
}

// fill puts cartridges into the drives that had one when the library was closed,
// and returns what is where. A cartridge that is too damaged to be used lies on the
// shelf from then on: the others are not to suffer from it.
func (l *Library) fill(all []changer.Place) (places []changer.Place, media map[string]changer.Medium) {
	media = map[string]changer.Medium{}
	for _, p := range all {
		m, err := cartridge.Look(l.disk, cartridgesDir+"/"+p.Name)
		if err != nil {
			continue
		}
		n := int(p.Address) - int(changer.DriveAddress(0))
		if n >= 0 && n < len(l.drives) {
			if err := (vault{l}).Insert(n, p.Name); err != nil {
				continue
			}
			l.loaded[n] = p.Name
		}
		places = append(places, p)
		media[p.Name] = medium(p.Name, m)
	}
	return places, media
}

// Units lists the units: the changer first, if there is one, then the drives.
func (l *Library) Units() []Unit { return slices.Clone(l.units) }

// listUnits makes the list. Each unit is decorated once.
func (l *Library) listUnits(o Options) {
	if l.changer != nil {
		l.units = append(l.units, Unit{"changer", l.cfg.Changer.Serial, l.changer})
	}
	for n, d := range l.drives {
		l.units = append(l.units, Unit{fmt.Sprintf("drive%d", n), l.cfg.Drives[n].Serial, d})
	}
	for i, u := range l.units {
		if o.Wrap != nil {
			l.units[i].Unit = o.Wrap(u)
		}
	}
}
