package qemu

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/names"
)

// Disk is a disk of a guest.
type Disk struct {
	Name     string   `json:"name"`
	Device   string   `json:"device"` // QOM path of what the guest sees
	Node     string   `json:"node"`   // block node below it
	Driver   string   `json:"format"`
	File     string   `json:"file"`
	Size     int64    `json:"size"` // bytes
	Why      string   `json:"left_out,omitempty"`
	Bitmaps  []Bitmap `json:"bitmaps"`
	keeps    bool     // bitmaps survive QEMU
	readOnly bool
}

// Bitmap is a dirty bitmap as QEMU shows it.
type Bitmap struct {
	Name         string `json:"name"`
	Granularity  int64  `json:"granularity"`
	Count        int64  `json:"count"` // dirty bytes
	Recording    bool   `json:"recording"`
	Busy         bool   `json:"busy"`
	Persistent   bool   `json:"persistent"`
	Inconsistent bool   `json:"inconsistent"`
}

// blockInfo is what query-block says of a drive.
type blockInfo struct {
	Device    string
	QDev      string
	Removable bool
	Inserted  *struct {
		NodeName string `json:"node-name"`
		Drv      string
		RO       bool
		File     string
		Image    struct {
			Filename    string
			VirtualSize int64                                  `json:"virtual-size"`
			Specific    struct{ Data struct{ Compat string } } `json:"format-specific"`
		}
		Bitmaps []Bitmap `json:"dirty-bitmaps"`
	}
}

// disks lists what is in the guest's drives, by name.
func (g *Guest) disks(ctx context.Context) ([]Disk, error) {
	var drives []blockInfo
	if err := g.qmp.Run(ctx, "query-block", nil, &drives); err != nil {
		return nil, err
	}
	var all []Disk
	for _, b := range drives {
		if b.Inserted == nil || b.QDev == "" {
			continue // nothing in it, or no device of the guest
		}
		d := Disk{
			Name: diskName(b), Device: devicePath(b.QDev), Node: b.Inserted.NodeName, Driver: b.Inserted.Drv,
			File: b.Inserted.File, Size: b.Inserted.Image.VirtualSize, readOnly: b.Inserted.RO,
			keeps: b.Inserted.Drv == "qcow2" && b.Inserted.Image.Specific.Data.Compat != "0.10",
		}
		for _, m := range b.Inserted.Bitmaps {
			if m.Name != "" { // others are QEMU's own
				d.Bitmaps = append(d.Bitmaps, m)
			}
		}
		switch {
		case b.Removable:
			d.Why = "it is removable"
		case d.readOnly:
			d.Why = "it is read-only"
		}
		all = append(all, d)
	}
	unique(all)
	return all, nil
}

// choose marks what is left out by the options.
func (o *Options) choose(all []Disk) error {
	for _, name := range slices.Concat(o.Disks, o.Skip) {
		if !slices.ContainsFunc(all, func(d Disk) bool { return d.Name == name }) {
			return fmt.Errorf("the guest has no disk %q", name)
		}
	}
	for i := range all {
		d := &all[i]
		switch {
		case slices.Contains(o.Skip, d.Name):
			d.Why = "it is to be skipped"
		case slices.Contains(o.Disks, d.Name):
			d.Why = ""
		case len(o.Disks) > 0:
			d.Why = "others were named"
		}
	}
	return nil
}

const (
	peripheral = "/machine/peripheral/"
	backend    = "/virtio-backend" // the part of a virtio device that has the drive
	drivePart  = "drive-"
)

// devicePath is where the device is in QEMU's object model; query-block has
// an id or a path.
func devicePath(qdev string) string {
	if strings.HasPrefix(qdev, "/") {
		return qdev
	}
	return peripheral + qdev
}

// diskName makes a name for a disk out of the best that there is.
func diskName(b blockInfo) string {
	for _, name := range []string{
		b.Device,
		strings.TrimSuffix(strings.TrimPrefix(devicePath(b.QDev), peripheral), backend),
		b.Inserted.NodeName,
		strings.TrimPrefix(b.QDev, "/machine/"),
	} {
		if names.IsSafeID(name) && len(name) < 200 {
			return drivePart + strings.TrimPrefix(name, drivePart)
		}
	}
	return drivePart + "disk"
}

// unique sorts the disks and makes equal names differ.
func unique(all []Disk) {
	slices.SortStableFunc(all, func(a, b Disk) int { return strings.Compare(a.Name, b.Name) })
	seen := map[string]int{}
	for i := range all {
		name := all[i].Name
		if seen[name]++; seen[name] > 1 {
			all[i].Name = fmt.Sprintf("%s.%d", name, seen[name])
		}
	}
}
