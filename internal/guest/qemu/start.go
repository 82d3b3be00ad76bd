package qemu

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/names"
)

// ParseMachine reads a MachineFile.
func ParseMachine(text []byte) (Machine, error) {
	var m Machine
	if err := json.Unmarshal(text, &m); err != nil {
		return Machine{}, fmt.Errorf("description of the machine: %w", err)
	}
	// Nothing that becomes part of an option may begin another.
	words := []*string{&m.Type, &m.UUID}
	for i := range m.Disks {
		d := &m.Disks[i]
		words = append(words, &d.Type, &d.ID, &d.Controller, &d.ControlID)
	}
	for _, w := range words {
		if *w != "" && !names.IsSafeID(*w) {
			return Machine{}, fmt.Errorf("description of the machine: %.80q is no name", *w)
		}
	}
	return m, nil
}

// Arguments are those of a QEMU that starts a machine like m with the restored
// disks, raw images at paths by the names of the disks. What m does not say is
// left to QEMU's defaults; networks and displays are not in it.
func (m Machine) Arguments(paths map[string]string) []string {
	var args []string
	add := func(flag string, value string, ok bool) {
		if ok {
			args = append(args, flag, value)
		}
	}
	add("-name", m.Name, m.Name != "")
	add("-uuid", m.UUID, m.UUID != "")
	add("-machine", m.Type, m.Type != "")
	add("-m", strconv.FormatInt(m.Memory>>20, 10)+"M", m.Memory >= 1<<20)
	add("-smp", strconv.Itoa(m.CPUs), m.CPUs > 0)
	add("-drive", "if=pflash,index=0,readonly=on,format=raw,file="+escape(m.Firmware), m.Firmware != "")
	controllers := map[string]bool{}
	for i, d := range m.Disks {
		path, ok := paths[d.Name]
		if !ok {
			continue
		}
		if index, ok := strings.CutPrefix(d.Device, flash); ok && names.IsSafeID(index) {
			add("-drive", fmt.Sprintf("if=pflash,index=%s,format=raw,file=%s", index, escape(path)), true)
			continue
		}
		if c := d.Controller; c != "" && !controllers[d.ControlID] && !strings.HasPrefix(c, "virtio-blk") {
			controllers[d.ControlID] = true
			add("-device", c+",id="+d.ControlID, true)
		}
		node := "disk" + strconv.Itoa(i)
		add("-blockdev", fmt.Sprintf("driver=raw,node-name=%s,discard=unmap,file.driver=file,file.discard=unmap,file.filename=%s", node, escape(path)), true)
		device := d.Type + ",drive=" + node
		if d.ID != "" {
			device += ",id=" + d.ID
		}
		if d.ControlID != "" {
			device += ",bus=" + d.ControlID + ".0"
		}
		add("-device", device, true)
	}
	return args
}

// escape doubles commas, as QEMU's options want it.
func escape(s string) string { return strings.ReplaceAll(s, ",", ",,") }
