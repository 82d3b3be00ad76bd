package lvm

import (
	"errors"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/md"
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
//	40      8     how far parity is right; all bits: everywhere
//	48      4     level, as md numbers it
//	52      4     layout
//	56      4     sectors of a stripe
//	60      4     1: it is being reshaped, 2: backwards
const (
	raidMagic = "DmRd"
	raidSize  = 64
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

// legs are those of a RAID, with nil for one that is not whole: it must have seen all events
// that any has, but for behind of them, nobody may say that it failed, and it must not be one
// that is being rebuilt. super is the newest superblock.
func (o *opener) legs(name string, seg *section, behind uint64, level int) (all []image.Image, super []byte, missing *MissingError, err error) {
	meta, data, err := o.members(name, seg, true)
	if err != nil {
		return nil, nil, nil, err
	}
	var supers [][]byte // nil: the leg is missing
	for i := range meta {
		b, err := o.superblock(meta[i], i, level)
		if m, ok := errors.AsType[*MissingError](err); ok {
			missing = m
			supers = append(supers, nil)
			continue
		}
		if err != nil {
			return nil, nil, nil, err
		}
		supers = append(supers, b)
		if super == nil || le.Uint64(b[16:]) > le.Uint64(super[16:]) {
			super = b
		}
	}
	all = make([]image.Image, len(supers))
	for i, b := range supers {
		if b == nil || le.Uint64(super[16:])-le.Uint64(b[16:]) > behind || le.Uint64(super[24:])&(1<<i) != 0 || le.Uint64(b[32:]) != rebuilt {
			continue
		}
		img, err := o.volume(data[i], level+1)
		if m, ok := errors.AsType[*MissingError](err); ok {
			missing = m
			continue
		}
		if err != nil {
			return nil, nil, nil, err
		}
		all[i] = img
	}
	return all, super, missing, nil
}

// leg is the first leg of a RAID 1 that is whole.
func (o *opener) leg(name string, seg *section, level int) ([]place, error) {
	all, _, missing, err := o.legs(name, seg, 0, level)
	if err != nil {
		return nil, err
	}
	for _, img := range all {
		if img != nil {
			return []place{{img: img}}, nil
		}
	}
	if missing != nil {
		return nil, missing
	}
	return nil, fsread.Unsupported(layer, "%s/%s, a RAID 1 without a leg that is whole", o.group.Name, name)
}

// array is a RAID 4, 5, 6 or 10, which package md reads.
func (o *opener) array(name string, seg *section, level int) ([]place, error) {
	all, super, missing, err := o.legs(name, seg, 1, level)
	if err != nil {
		return nil, err
	}
	if super == nil {
		return nil, missing
	}
	full := o.group.Name + "/" + name
	if int(le.Uint32(super[8:])) != len(all) || le.Uint32(super[60:]) != 0 {
		return nil, fsread.Unsupported(layer, "%s, a RAID that is being reshaped", full)
	}
	g := md.Geometry{Name: full, Level: int(int32(le.Uint32(super[48:]))), Layout: le.Uint32(super[52:]), Chunk: int64(le.Uint32(super[56:])) * sectorSize}
	for _, img := range all {
		if img != nil && (g.Used == 0 || img.Size() < g.Used) {
			g.Used = img.Size()
		}
	}
	img, err := md.Open(g, all, le.Uint64(super[40:]) == rebuilt)
	if _, few := errors.AsType[*md.MissingError](err); few && missing != nil {
		return nil, missing
	}
	if err != nil {
		return nil, err
	}
	return []place{{img: img}}, nil
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
		return nil, fsread.Unsupported(layer, "%s/%s, the metadata of a RAID that was never in use", group, meta)
	}
	return b, nil
}
