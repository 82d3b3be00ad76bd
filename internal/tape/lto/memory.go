package lto

import (
	"context"
	"encoding/binary"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/tape/lto/mam"
)

// memoryRoom is more than the memory of a cartridge holds, in bytes.
const memoryRoom = 32 << 10

// Memory reads the attributes of the cartridge. odd tells of those that cannot
// be understood.
func (d *Drive) Memory() (list []mam.Attribute, odd []string, err error) {
	raw, err := d.attributes()
	if err != nil {
		return nil, nil, err
	}
	list, odd = mam.Describe(raw)
	return list, odd, nil
}

func (d *Drive) attributes() ([]mam.Raw, error) {
	b := make([]byte, memoryRoom)
	cdb := []byte{byte(scsi.ReadAttribute), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(cdb[10:], uint32(len(b)))
	n, err := d.ask(scsi.Command{CDB: cdb, Dir: scsi.In, Data: b, Timeout: answer})
	if err != nil {
		return nil, err
	}
	return mam.Parse(b[:n])
}

// SetMemory writes attributes of the cartridge.
func (d *Drive) SetMemory(all ...mam.Raw) error {
	if d.lost != nil {
		return d.lost
	}
	b := mam.Append(nil, all)
	cdb := []byte{byte(scsi.WriteAttribute), 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0} // not into a cache
	binary.BigEndian.PutUint32(cdb[10:], uint32(len(b)))
	_, err := d.act(scsi.Command{CDB: cdb, Dir: scsi.Out, Data: b, Timeout: answer})
	return err
}

// Mark says in the cartridge's memory who uses it.
func (d *Drive) Mark(_ context.Context, label, pool string) error {
	all := []mam.Raw{
		mam.Text(mam.Vendor, "Holdfast"), mam.Text(mam.Name, "Holdfast"), mam.Text(mam.Version, d.cfg.Version),
	}
	if label != "" {
		all = append(all, mam.Text(mam.UserLabel, label))
	}
	if pool != "" {
		all = append(all, mam.Text(mam.Pool, pool))
	}
	return d.SetMemory(all...)
}

// unmark removes what Mark wrote, and what PBS does.
func (d *Drive) unmark() error {
	return d.SetMemory(mam.Text(mam.Vendor, ""), mam.Text(mam.Name, ""), mam.Text(mam.Version, ""),
		mam.Text(mam.UserLabel, ""), mam.Text(mam.Pool, ""))
}
