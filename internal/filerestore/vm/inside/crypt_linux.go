package inside

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/appliance/guest"
	"github.com/holdfast-backup/holdfast/internal/filerestore"
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
	return mapDevice(filepath.Base(at.v.clear().dev), sectors, "crypt", table)
}

// The device-mapper's structures: struct dm_ioctl, and behind it a target with its
// parameters.
const (
	dmHead   = 312
	dmTarget = 40
	dmSize   = 16 << 10

	dmDevCreate  = 0xc138fd03
	dmDevRemove  = 0xc138fd04
	dmDevSuspend = 0xc138fd06
	dmTableLoad  = 0xc138fd09
)

// mapDevice makes a device of one target, with a name below /dev/mapper.
func mapDevice(name string, sectors int64, target, table string) (err error) {
	control, err := os.OpenFile("/dev/mapper/control", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer control.Close()
	b := make([]byte, dmSize)
	call := func(request uintptr, what string) error {
		le := binary.NativeEndian
		le.PutUint32(b, 4) // version 4.0.0
		le.PutUint32(b[4:], 0)
		le.PutUint32(b[8:], 0)
		le.PutUint32(b[12:], dmSize)
		le.PutUint32(b[16:], dmHead)
		copy(b[48:], name)
		if err := ioctl(control, request, unsafe.Pointer(&b[0])); err != nil { //nolint:gosec // the kernel's structure
			return fmt.Errorf("device-mapper: %s %s: %w", what, name, err)
		}
		return nil
	}
	if dmHead+dmTarget+len(table)+1 > dmSize || len(name) > 127 {
		return errors.New("device-mapper: the table is too long")
	}
	if err := call(dmDevCreate, "create"); err != nil {
		return err
	}
	dev := binary.NativeEndian.Uint64(b[40:])
	defer func() {
		if err != nil {
			clear(b)
			_ = call(dmDevRemove, "remove") // there is nothing to be done if it fails, too
		}
	}()
	clear(b)
	binary.NativeEndian.PutUint32(b[20:], 1)
	t := b[dmHead:]
	binary.NativeEndian.PutUint64(t[8:], uint64(sectors))
	copy(t[24:40], target)
	copy(t[dmTarget:], table)
	if err := call(dmTableLoad, "describe"); err != nil {
		return err
	}
	clear(b)
	if err := call(dmDevSuspend, "start"); err != nil {
		return err
	}
	return os.Symlink(fmt.Sprintf("../dm-%d", unix.Minor(dev)), "/dev/mapper/"+name)
}
