package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/proto/qmp"
)

// MachineFile is the small file with the description of the machine.
const MachineFile = "machine.json"

// Machine describes a guest, to start one like it around restored disks. What
// QEMU did not tell is left out.
type Machine struct {
	QEMU      string          `json:"qemu"`
	Name      string          `json:"name,omitempty"`
	UUID      string          `json:"uuid,omitempty"`
	Type      string          `json:"machine,omitempty"`
	CPUModel  string          `json:"cpu,omitempty"`
	CPUs      int             `json:"cpus,omitempty"`
	Memory    int64           `json:"memory,omitempty"`   // bytes
	Firmware  string          `json:"firmware,omitempty"` // file of the first flash, if that is not backed up
	Disks     []MachineDisk   `json:"disks"`
	PCI       json.RawMessage `json:"pci,omitempty"`        // as query-pci answers
	Chardevs  json.RawMessage `json:"chardevs,omitempty"`   // as query-chardev answers
	Blocks    json.RawMessage `json:"blocks,omitempty"`     // as query-block answers
	Hotplug   json.RawMessage `json:"cpu_slots,omitempty"`  // as query-hotpluggable-cpus answers
	MemoryDev json.RawMessage `json:"memory_dev,omitempty"` // as query-memory-devices answers
}

// MachineDisk says where a disk of the snapshot belongs.
type MachineDisk struct {
	Name       string `json:"name"`
	Size       int64  `json:"size"`
	File       string `json:"file"`
	Format     string `json:"format"`
	Device     string `json:"device"`               // QOM path
	Type       string `json:"type,omitempty"`       // of the device, as -device takes it
	ID         string `json:"id,omitempty"`         // of the device
	Controller string `json:"controller,omitempty"` // type of the device whose bus it is on, if that is no PCI bus
	ControlID  string `json:"controller_id,omitempty"`
}

// flash begins the paths of the firmware's memory.
const flash = "/machine/system.flash"

// machine describes the guest.
func (g *Guest) machine(ctx context.Context, all []Disk, drives []drive) ([]guest.Config, error) {
	m, err := g.Machine(ctx)
	if err != nil {
		return nil, err
	}
	for _, d := range all {
		if d.Device == flash+"0" && d.Why != "" {
			m.Firmware = d.File
		}
	}
	for _, d := range drives {
		disk, err := g.machineDisk(ctx, d.Disk)
		if err != nil {
			return nil, err
		}
		m.Disks = append(m.Disks, disk)
	}
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("describe the machine: %w", err)
	}
	return []guest.Config{{Name: MachineFile, Data: append(b, '\n')}}, nil
}

// Machine asks QEMU what machine it is, without its disks.
func (g *Guest) Machine(ctx context.Context) (Machine, error) {
	m := Machine{QEMU: g.qmp.Version().String()}
	var name struct{ Name string }
	var uuid struct{ UUID string }
	var cpus []struct{}
	var memory struct {
		Base    int64 `json:"base-memory"`
		Plugged int64 `json:"plugged-memory"`
	}
	err := errors.Join(
		g.ask(ctx, "query-name", nil, &name), g.ask(ctx, "query-uuid", nil, &uuid),
		g.ask(ctx, "query-cpus-fast", nil, &cpus), g.ask(ctx, "query-memory-size-summary", nil, &memory),
		g.ask(ctx, "qom-get", obj{"path": "/machine", "property": "type"}, &m.Type),
		g.ask(ctx, "query-pci", nil, &m.PCI), g.ask(ctx, "query-chardev", nil, &m.Chardevs),
		g.ask(ctx, "query-block", nil, &m.Blocks), g.ask(ctx, "query-hotpluggable-cpus", nil, &m.Hotplug),
		g.ask(ctx, "query-memory-devices", nil, &m.MemoryDev),
	)
	m.Name, m.CPUs, m.Memory = name.Name, len(cpus), memory.Base+memory.Plugged
	m.Type = strings.TrimSuffix(m.Type, "-machine")
	if strings.Trim(uuid.UUID, "0-") != "" {
		m.UUID = uuid.UUID
	}
	return m, err
}

// ask is a query that QEMU may refuse: it knows no PCI on some machines.
func (g *Guest) ask(ctx context.Context, name string, args, result any) error {
	err := g.qmp.Run(ctx, name, args, result)
	if _, refused := errors.AsType[*qmp.Error](err); refused {
		return nil
	}
	return err
}

func (g *Guest) machineDisk(ctx context.Context, d Disk) (MachineDisk, error) {
	m := MachineDisk{Name: d.Name, Size: d.Size, File: d.File, Format: d.Driver, Device: d.Device}
	device := strings.TrimSuffix(d.Device, backend)
	m.ID = deviceID(device)
	controller, err := g.controller(ctx, device)
	err = errors.Join(err, g.ask(ctx, "qom-get", obj{"path": device, "property": "type"}, &m.Type))
	if controller != "" {
		m.ControlID = deviceID(controller)
		err = errors.Join(err, g.ask(ctx, "qom-get", obj{"path": controller, "property": "type"}, &m.Controller))
	}
	return m, err
}

// deviceID is the id that the user gave a device, "" if none.
func deviceID(path string) string {
	id, ok := strings.CutPrefix(path, peripheral)
	if !ok || strings.Contains(id, "/") {
		return ""
	}
	return id
}
