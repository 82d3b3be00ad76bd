package vtl

import (
	"encoding/json"
	"errors"

	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/cartridge"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/changer"
)

// vault is the library as the changer uses it.
type vault struct{ l *Library }

func (v vault) Insert(n int, name string) error {
	c, err := cartridge.Open(v.l.disk, cartridgesDir+"/"+name)
	if err != nil {
		return err
	}
	if err := v.l.drives[n].Insert(c); err != nil {
		return errors.Join(err, c.Close())
	}
	return nil
}

func (v vault) Remove(n int) error {
	c, err := v.l.drives[n].Remove()
	if err != nil {
		return err
	}
	return c.Close()
}

func (v vault) Save(places []changer.Place) error { return v.l.save(places) }

func (l *Library) save(places []changer.Place) error {
	if places == nil {
		places = []changer.Place{}
	}
	b, err := json.MarshalIndent(state{places}, "", "  ")
	if err != nil {
		return err
	}
	return cartridge.Replace(l.disk, stateFile, append(b, '\n'))
}
