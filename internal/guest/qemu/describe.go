package qemu

import "context"

// Description is a guest as it is listed.
type Description struct {
	Name   string `json:"name,omitempty"`
	UUID   string `json:"uuid,omitempty"`
	Status string `json:"status"`
	QEMU   string `json:"qemu"`
	Disks  []Disk `json:"disks"`
}

// Describe tells what a backup would find.
func (g *Guest) Describe(ctx context.Context) (Description, error) {
	m, err := g.Machine(ctx)
	if err != nil {
		return Description{}, err
	}
	d := Description{Name: m.Name, UUID: m.UUID, QEMU: m.QEMU}
	if d.Status, err = g.Status(ctx); err != nil {
		return Description{}, err
	}
	d.Disks, err = g.disks(ctx)
	return d, err
}
