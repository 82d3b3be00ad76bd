// Package holders tells who uses a block device or a file: what a user must end
// before the device can go.
//
// A device counts with its partitions. Its users are mounts (of the mount
// namespace that this process sees), swap areas, devices on top of it (device
// mapper, MD; by sysfs), and processes that have it open (by /proc/PID/fd, as
// far as this process may look).
//
// [Claimed] is the kernel's own answer whether anything has the device for
// itself, in whatever namespace: mounts, swap, other devices, exclusive opens.
// It does not say who.
//
// # Source
//
// Linux: Documentation/filesystems/proc.rst (mountinfo, swaps, fd),
// Documentation/ABI/stable/sysfs-block (holders).
package holders

import (
	"fmt"
	"strings"
)

// Holder is one user of a device or file.
type Holder struct {
	Kind    string `json:"kind"` // "mount", "swap", "device", "process" or "client"; empty: unknown
	Node    string `json:"node"` // the device, partition or file that is used
	Where   string `json:"where,omitempty"`
	PID     int    `json:"pid,omitempty"`
	Command string `json:"command,omitempty"`
}

func (h Holder) String() string {
	switch h.Kind {
	case "mount":
		return fmt.Sprintf("%s is mounted on %s", h.Node, h.Where)
	case "swap":
		return h.Node + " is swap space"
	case "device":
		return fmt.Sprintf("%s is part of %s", h.Node, h.Where)
	case "client":
		return fmt.Sprintf("%s has %s", h.Node, h.Where)
	case "process":
		return fmt.Sprintf("%s is open in process %d (%s)", h.Node, h.PID, h.Command)
	}
	return h.Node + " is claimed by something that this process cannot see"
}

// Join is a sentence about all holders.
func Join(hs []Holder) string {
	var parts []string
	for i, h := range hs {
		if i == 5 {
			parts = append(parts, fmt.Sprintf("and %d more", len(hs)-i))
			break
		}
		parts = append(parts, h.String())
	}
	return strings.Join(parts, "; ")
}
