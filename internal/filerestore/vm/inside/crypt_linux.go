package inside

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"

	"github.com/holdfast-backup/holdfast/internal/appliance/guest"
	"github.com/holdfast-backup/holdfast/internal/filerestore"
	"github.com/holdfast-backup/holdfast/internal/kernel/dm"
)

// clear is where an encrypted volume is mapped, as soon as it is unlocked.
func (v volume) clear() volume { return volume{dev: "/dev/mapper/luks-" + filepath.Base(v.dev)} }

// decrypted is the volume itself, or what an encrypted one holds.
func (v volume) decrypted() (volume, error) {
	f, err := v.look()
	if err != nil || f.Type != luksType {
		return v, err
	}
	if c := v.clear(); exists(c.dev) {
		return c, nil
	}
	return v, errLocked
}

// listLocked lists the encrypted volumes on disks, partitions and arrays.
func (m *machine) listLocked(item func(Item) error) error {
	unlock, err := lock()
	if err != nil {
		return err
	}
	defer unlock()
	tell := func(v volume, p filerestore.Path) error {
		if _, err := v.decrypted(); errors.Is(err, errLocked) {
			return item(Item{Name: []byte(p.String())})
		}
		return nil
	}
	for _, archive := range m.order {
		v, base := volume{dev: m.disks[archive]}, filerestore.Path{Archive: archive}
		if err := tell(v, base); err != nil {
			return err
		}
		parts, err := v.partitions()
		if err != nil {
			return err
		}
		for _, p := range parts {
			if err := tell(p.volume, base.Join(filerestore.BucketPart).Join(strconv.Itoa(p.number))); err != nil {
				return err
			}
		}
	}
	arrays, err := m.arrays()
	if err != nil {
		m.notice("md: %v", err)
	}
	for _, a := range arrays {
		if v, err := a.volume(); err == nil {
			if err := tell(v, filerestore.Path{Archive: m.order[0]}.Join(filerestore.BucketMD).Join(a.name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// header sends a piece of the start of the first locked volume on a path.
func (m *machine) header(c Call, w io.Writer) error {
	m.stop = true
	at, err := m.resolve(c.Path())
	if err != nil {
		return err
	}
	if at.v.dev == "" {
		return fmt.Errorf("%s: nothing on the way is locked", c.Path())
	}
	d, err := at.v.open()
	if err != nil {
		return err
	}
	defer d.Close()
	if c.Offset < 0 || c.Length < 0 {
		return fmt.Errorf("%d bytes at %d are no piece", c.Length, c.Offset)
	}
	piece := io.NewSectionReader(d, 0, min(d.size, HeaderSize))
	_, err = io.Copy(w, io.NewSectionReader(piece, c.Offset, c.Length))
	return err
}

// unlock maps the first locked volume on a path.
func (m *machine) unlock(c Call) error {
	m.stop = true
	at, err := m.resolve(c.Path())
	switch {
	case err != nil:
		return err
	case at.v.dev == "" || c.Crypt == nil:
		return fmt.Errorf("%s: nothing on the way is locked", c.Path())
	}
	if err := guest.Load("dm-mod", "aes-generic", "aesni-intel", "xts", "cbc", "essiv", "sha256-generic", "dm-crypt"); err != nil {
		return err
	}
	sectors := at.v.size()/512 - c.Crypt.Offset/512
	if sectors <= 0 {
		return errors.New("the volume ends before its data")
	}
	table := fmt.Sprintf("%s %s 0 %s %d", c.Crypt.Cipher, hex.EncodeToString(c.Crypt.Key), at.v.dev, c.Crypt.Offset/512)
	if c.Crypt.SectorSize > 512 {
		table += fmt.Sprintf(" 1 sector_size:%d", c.Crypt.SectorSize)
		sectors &^= int64(c.Crypt.SectorSize/512) - 1
	}
	control, err := dm.Open()
	if err != nil {
		return err
	}
	defer control.Close()
	ctx := context.Background() // the host ends this process when nobody waits any more
	_, err = control.Create(ctx, filepath.Base(at.v.clear().dev), "", []dm.Target{{Length: uint64(sectors), Type: "crypt", Params: table}}, false)
	return err
}
