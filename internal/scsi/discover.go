package scsi

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Found is a tape drive or changer that is connected to this machine.
type Found struct {
	Type                              DeviceType
	Vendor, Product, Revision, Serial string   // "" where the kernel does not know it
	Address                           string   // host:channel:target:unit
	Generic                           string   // the node that takes commands, /dev/sgN
	Kernel                            []string // nodes of the kernel's own drivers, as /dev/nst0 or /dev/sch0
	Links                             []string // names below /dev/tape that lead to Generic and stay when numbers change
}

// SerialPrefix begins the name of a device that says its serial number, as
// serial:10WT012345, and not its node.
const SerialPrefix = "serial:"

const genericClass = "class/scsi_generic"

// Discover lists drives and changers by their generic nodes. sys and dev are
// /sys and /dev, as os.DirFS gives them. It opens no device.
func Discover(sys, dev fs.FS) ([]Found, error) {
	entries, err := fs.ReadDir(sys, genericClass)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // the driver is not loaded: it is as soon as there is a device
	}
	if err != nil {
		return nil, fmt.Errorf("list SCSI devices: %w", err)
	}
	links := linksTo(dev, "tape")
	var all []Found
	for _, e := range entries {
		dir := path.Join(genericClass, e.Name(), "device")
		kind, err := fs.ReadFile(sys, path.Join(dir, "type"))
		if err != nil {
			continue // it went away, or is none
		}
		n, err := strconv.ParseUint(strings.TrimSpace(string(kind)), 10, 8)
		if t := DeviceType(n); err != nil || t != TypeTape && t != TypeChanger {
			continue
		}
		all = append(all, Found{
			Type:   DeviceType(n),
			Vendor: attribute(sys, dir, "vendor"), Product: attribute(sys, dir, "model"), Revision: attribute(sys, dir, "rev"),
			Serial: serial(sys, dir), Address: address(sys, dir),
			Generic: "/dev/" + e.Name(), Kernel: kernelNodes(sys, dir), Links: links[e.Name()],
		})
	}
	slices.SortFunc(all, func(a, b Found) int {
		return numberAfter(a.Generic, "/dev/sg") - numberAfter(b.Generic, "/dev/sg")
	})
	return all, nil
}

func numberAfter(s, prefix string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(s, prefix))
	if err != nil {
		return -1
	}
	return n
}

// attribute is a file of one line; "" where there is none.
func attribute(sys fs.FS, dir, name string) string {
	b, err := fs.ReadFile(sys, path.Join(dir, name))
	if err != nil {
		return ""
	}
	return Text(bytes.TrimSpace(b))
}

// serial is what the kernel kept of VPD page 80h.
func serial(sys fs.FS, dir string) string {
	b, err := fs.ReadFile(sys, path.Join(dir, "vpd_pg80"))
	if err != nil {
		return ""
	}
	s, err := ParseSerialNumber(b)
	if err != nil {
		return ""
	}
	return s
}

// address is the name of the one entry of scsi_device.
func address(sys fs.FS, dir string) string {
	entries, err := fs.ReadDir(sys, path.Join(dir, "scsi_device"))
	if err != nil || len(entries) != 1 {
		return ""
	}
	return entries[0].Name()
}

// kernelNodes are the nodes of st, the one that does not rewind in its first
// mode, and of ch.
func kernelNodes(sys fs.FS, dir string) []string {
	var nodes []string
	for _, class := range []string{"scsi_tape", "scsi_changer"} {
		entries, err := fs.ReadDir(sys, path.Join(dir, class))
		if err != nil {
			continue
		}
		for _, e := range entries {
			if numberAfter(e.Name(), "nst") >= 0 || numberAfter(e.Name(), "sch") >= 0 {
				nodes = append(nodes, "/dev/"+e.Name())
			}
		}
	}
	return nodes
}

// linksTo maps the last name of what links below a directory lead to, to them.
func linksTo(dev fs.FS, below string) map[string][]string {
	links := map[string][]string{}
	// What cannot be read has no links to show: they are only for convenience.
	_ = fs.WalkDir(dev, below, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.Type()&fs.ModeSymlink == 0 {
			return nil
		}
		if to, err := fs.ReadLink(dev, p); err == nil {
			links[path.Base(to)] = append(links[path.Base(to)], "/dev/"+p)
		}
		return nil
	})
	return links
}

// Resolve turns the name of a device into its generic node: a path stays as it
// is, SerialPrefix and a serial number become the node of the connected device
// of this type that has it. The error wraps fs.ErrNotExist when there is none.
func Resolve(sys, dev fs.FS, name string, t DeviceType) (string, error) {
	want, bySerial := strings.CutPrefix(name, SerialPrefix)
	if !bySerial {
		return name, nil
	}
	all, err := Discover(sys, dev)
	if err != nil {
		return "", err
	}
	var nodes []string
	for _, f := range all {
		if f.Type == t && f.Serial == want && want != "" {
			nodes = append(nodes, f.Generic)
		}
	}
	switch len(nodes) {
	case 0:
		return "", fmt.Errorf("%w: no %s with serial number %q is connected", fs.ErrNotExist, t, want)
	case 1:
		return nodes[0], nil
	}
	return "", fmt.Errorf("serial number %q is that of %s: name one of them", want, strings.Join(nodes, " and "))
}
