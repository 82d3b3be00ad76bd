package vtl

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/cartridge"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/changer"
)

// Info is a cartridge of a library.
type Info struct {
	Name   string
	Memory cartridge.Memory // what was last saved of it
	Place  string           // "slot 3", "station 1", "drive 0", "transport", or "shelf"
	Damage string           // why it cannot be used; "": it can
}

// AddCartridge makes a cartridge. It goes into the first free slot, or where there
// is none, onto the shelf.
func (l *Library) AddCartridge(c Cartridge) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	m, err := c.memory(serial(), l.disk.Now())
	if err != nil {
		return err
	}
	dir, tmp := cartridgesDir+"/"+c.Barcode, cartridgesDir+"/"+unfinished+c.Barcode
	switch _, err := l.disk.Lstat(dir); {
	case err == nil:
		return fmt.Errorf("there is a cartridge %s already: %w", c.Barcode, fs.ErrExist)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := cartridge.Create(l.disk, tmp, m); err != nil {
		return err
	}
	if err := l.disk.Rename(tmp, dir); err != nil {
		return err
	}
	if err := l.disk.SyncDir(cartridgesDir); err != nil {
		return err
	}
	if l.changer == nil {
		return nil
	}
	address, err := l.changer.FreeSlot(false)
	if err != nil {
		return nil // it lies on the shelf
	}
	return l.changer.Put(address, medium(c.Barcode, m))
}

// Cartridges lists all cartridges, by their names.
func (l *Library) Cartridges() ([]Info, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	where := map[string]string{}
	for _, p := range l.places() {
		where[p.Name] = place(p.Address)
	}
	names, err := l.disk.ReadDir(cartridgesDir)
	if err != nil {
		return nil, err
	}
	var list []Info
	for _, e := range names {
		if strings.HasPrefix(e.Name, ".") {
			continue
		}
		info := Info{Name: e.Name, Place: "shelf"}
		if w, ok := where[e.Name]; ok {
			info.Place = w
		}
		if info.Memory, err = l.look(e.Name); err != nil {
			info.Damage = err.Error()
		}
		list = append(list, info)
	}
	return list, nil
}

// place is an address in words, counted as people do.
func place(address uint16) string {
	switch {
	case address >= changer.SlotAddress(0):
		return fmt.Sprintf("slot %d", address-changer.SlotAddress(0)+1)
	case address >= changer.DriveAddress(0):
		return fmt.Sprintf("drive %d", address-changer.DriveAddress(0))
	case address >= changer.ImportExportAddress(0):
		return fmt.Sprintf("station %d", address-changer.ImportExportAddress(0)+1)
	}
	return "transport"
}

// Import puts a cartridge from the shelf into the import and export station.
func (l *Library) Import(name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changer == nil {
		return errors.New("the library has no changer: insert the cartridge into a drive")
	}
	if err := l.shelved(name); err != nil {
		return err
	}
	m, err := l.look(name)
	if err != nil {
		return err
	}
	address, err := l.changer.FreeSlot(true)
	if err != nil {
		return fmt.Errorf("the import and export station: %w", err)
	}
	return l.changer.Put(address, medium(name, m))
}

// Export takes a cartridge out of its slot and puts it on the shelf.
func (l *Library) Export(name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changer == nil {
		return errors.New("the library has no changer: eject the cartridge from its drive")
	}
	return l.changer.Take(name)
}

// look reads the memory of a cartridge; one that is on the shelf is opened, too, to
// see whether it can be.
func (l *Library) look(name string) (cartridge.Memory, error) {
	dir := cartridgesDir + "/" + name
	if l.shelved(name) == nil {
		c, err := cartridge.Open(l.disk, dir)
		if err != nil {
			return cartridge.Memory{}, err
		}
		return c.Memory, c.Close()
	}
	return cartridge.Look(l.disk, dir)
}

// shelved returns nil if a cartridge is there and nowhere in the library.
func (l *Library) shelved(name string) error {
	if !goodName.MatchString(name) {
		return fmt.Errorf("there is no cartridge %q", name)
	}
	for _, p := range l.places() {
		if p.Name == name {
			return fmt.Errorf("cartridge %s is in %s", name, place(p.Address))
		}
	}
	_, err := l.disk.Lstat(cartridgesDir + "/" + name)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no cartridge %s: %w", name, err)
	}
	return err
}

// Insert puts a cartridge from the shelf into a drive by hand, and Eject takes it
// out again. A library with a changer does that by itself.
func (l *Library) Insert(n int, name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.byHand(n); err != nil {
		return err
	}
	if err := l.shelved(name); err != nil {
		return err
	}
	if err := (vault{l}).Insert(n, name); err != nil {
		return err
	}
	l.loaded[n] = name
	return l.save(l.places())
}

// Eject takes a cartridge out of a drive by hand.
func (l *Library) Eject(n int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.byHand(n); err != nil {
		return err
	}
	if err := (vault{l}).Remove(n); err != nil {
		return err
	}
	delete(l.loaded, n)
	return l.save(l.places())
}

func (l *Library) byHand(n int) error {
	switch {
	case l.changer != nil:
		return errors.New("the changer puts cartridges into the drives")
	case n < 0 || n >= len(l.drives):
		return fmt.Errorf("there is no drive %d", n)
	}
	return nil
}

// Delete removes a cartridge that lies on the shelf, with all that is on it.
func (l *Library) Delete(name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.shelved(name); err != nil {
		return err
	}
	dir, tmp := cartridgesDir+"/"+name, cartridgesDir+"/"+unfinished+name
	if err := l.disk.Rename(dir, tmp); err != nil {
		return err
	}
	return errors.Join(l.removeTree(tmp), l.disk.SyncDir(cartridgesDir))
}
