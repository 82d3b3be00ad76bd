package direct

import (
	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/btrfs"
	"github.com/holdfast-backup/holdfast/internal/fsread/detect"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// severalDevices is what detect calls the file system that may lie on several volumes.
const severalDevices = "btrfs"

// openFound opens what was found on v, with the other volumes that it lies on.
func (v *volume) openFound(f detect.Finding) (fsread.FS, error) {
	if f.Type != severalDevices {
		return f.Open(v.img)
	}
	id, err := btrfs.Identify(v.img)
	if err != nil || id.Of < 2 {
		return f.Open(v.img)
	}
	all := []image.Image{v.img}
	for _, o := range v.d.everywhere(severalDevices) {
		if o == v {
			continue
		}
		if other, err := btrfs.Identify(o.img); err == nil && other.UUID == id.UUID {
			all = append(all, o.img)
		}
	}
	opened, err := btrfs.OpenAll(all)
	if err != nil {
		return nil, err
	}
	return opened, nil
}

// everywhere finds the volumes of a kind on all disks, in arrays and in volume groups.
func (d *Driver) everywhere(kind string) []*volume {
	all := d.inArrays(kind)
	for _, g := range d.groups() {
		for _, l := range g.Logical {
			if v, err := d.openLogical(g, l.Name); err == nil {
				all = append(all, v.members(kind)...)
			}
		}
	}
	return all
}

// inArrays finds those on all disks and in arrays.
func (d *Driver) inArrays(kind string) (all []*volume) {
	for _, k := range d.disks {
		all = append(all, k.members(kind)...)
	}
	for _, a := range d.arrays().all {
		if a.volume != nil {
			all = append(all, a.volume.members(kind)...)
		}
	}
	return all
}
