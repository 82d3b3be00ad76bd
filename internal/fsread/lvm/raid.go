package lvm

import (
	"errors"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// The superblock that dm-raid keeps in the metadata volume of each leg:
//
//	offset  size
//	0       4     "DmRd"
//	8       4     number of legs
//	12      4     this leg
//	16      8     events
//	24      8     legs that failed, as bits
//	32      8     how far the leg is rebuilt; all bits: it is whole
const (
	raidMagic = "DmRd"
	raidSize  = 48
	rebuilt   = 1<<64 - 1
	maxLegs   = 64
)

// members reads the volumes of a RAID segment, those of metadata and of data by
// turns, or of data alone.
func (o *opener) members(name string, seg *section, withMeta bool) (meta, data []string, err error) {
	list, ok := seg.values["raids"].([]any)
	if !ok && !withMeta {
		list, _ = seg.values["raid0_lvs"].([]any)
	}
	for i, v := range list {
		s, ok := v.(string)
		if !ok {
			data = nil
			break
		}
		if withMeta && i%2 == 0 {
			meta = append(meta, s)
		} else {
			data = append(data, s)
		}
	}
	if len(data) == 0 || len(data) > maxLegs || withMeta && len(meta) != len(data) {
		return nil, nil, fsread.Corrupt(layer, "logical volume %s/%s: %s has no list of its images", o.group.Name, name, seg.name)
	}
	return meta, data, nil
}

// images are the stripes of a RAID 0.
func (o *opener) images(name string, seg *section, withMeta bool, level int) (all []place, err error) {
	_, data, err := o.members(name, seg, withMeta)
	if err != nil {
		return nil, err
	}
	for _, d := range data {
		img, err := o.volume(d, level+1)
		if err != nil {
			return nil, err
		}
		all = append(all, place{img: img})
	}
	return all, nil
}

// leg is the first leg of a RAID 1 that is whole: it has seen all events that any
// has, nobody says that it failed, and it is not being rebuilt.
func (o *opener) leg(name string, seg *section, level int) ([]place, error) {
	meta, data, err := o.members(name, seg, true)
	if err != nil {
		return nil, err
	}
	var supers [][]byte // nil: the leg is missing
	var newest, failed uint64
	var missing *MissingError
	for i := range meta {
		b, err := o.superblock(meta[i], i, level)
		if m, ok := errors.AsType[*MissingError](err); ok {
			missing = m
			supers = append(supers, nil)
			continue
		}
		if err != nil {
			return nil, err
		}
		supers = append(supers, b)
		if events := le.Uint64(b[16:]); events > newest || newest == 0 {
			newest, failed = events, le.Uint64(b[24:])
		}
	}
	for i, b := range supers {
		if b == nil || le.Uint64(b[16:]) != newest || failed&(1<<i) != 0 || le.Uint64(b[32:]) != rebuilt {
			continue
		}
		img, err := o.volume(data[i], level+1)
		if m, ok := errors.AsType[*MissingError](err); ok {
			missing = m
			continue
		}
		if err != nil {
			return nil, err
		}
		return []place{{img: img}}, nil
	}
	if missing != nil {
		return nil, missing
	}
	return nil, fsread.Unsupported(layer, "%s/%s, a RAID 1 without a leg that is whole", o.group.Name, name)
}

// superblock reads that of leg i.
func (o *opener) superblock(meta string, i, level int) ([]byte, error) {
	img, err := o.volume(meta, level+1)
	if err != nil {
		return nil, err
	}
	return readRAID(img, o.group.Name, meta, i)
}

func readRAID(img image.Image, group, meta string, i int) ([]byte, error) {
	b := make([]byte, raidSize)
	if err := fsread.ReadFull(img, layer, b, 0); err != nil {
		return nil, err
	}
	if string(b[:4]) != raidMagic || le.Uint32(b[12:]) != uint32(i) {
		return nil, fsread.Unsupported(layer, "%s/%s, the metadata of a RAID 1 that was never in use", group, meta)
	}
	return b, nil
}
