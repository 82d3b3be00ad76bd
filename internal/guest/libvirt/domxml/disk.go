package domxml

import "github.com/beevik/etree"

// Disk is a disk of a domain.
type Disk struct {
	Target    string // what libvirt calls it: "vda"
	Device    string // "disk", "lun", "cdrom" or "floppy"
	Kind      string // of its source: "file", "block", "network", "volume", ...
	Path      string // of a file or block device; otherwise empty
	Format    string // of its bytes: "raw", "qcow2", ...
	Bus       string // "virtio", "scsi", ...
	ReadOnly  bool
	Transient bool // what is written is thrown away with the domain
	Empty     bool // no medium
	Encrypted bool // the source is, and the guest does not see it
	Threaded  bool // a thread of its own serves it, or its controller
}

// Holds reports whether the disk has something of the guest's to back up.
func (d Disk) Holds() bool {
	return (d.Device == "disk" || d.Device == "lun") && !d.ReadOnly && !d.Transient && !d.Empty
}

// Disks lists all disks that have a target.
func (d *Domain) Disks() []Disk {
	var all []Disk
	for _, e := range d.disks() {
		k := diskOf(e)
		k.Threaded = hasThread(e) || k.Bus == "scsi" && hasThread(d.controller(attr(child(e, "address"), "controller", "0")))
		all = append(all, k)
	}
	return all
}

// hasThread looks for an I/O thread of a disk or a controller, which may be nil.
func hasThread(e *etree.Element) bool {
	driver := child(e, "driver")
	return driver != nil && (driver.SelectAttr("iothread") != nil || child(driver, "iothreads") != nil)
}

// controller is the SCSI controller of an index.
func (d *Domain) controller(index string) *etree.Element {
	devices := child(d.root, "devices")
	if devices == nil {
		return nil
	}
	for _, e := range devices.SelectElements("controller") {
		if e.SelectAttrValue("type", "") == "scsi" && e.SelectAttrValue("index", "0") == index {
			return e
		}
	}
	return nil
}

func (d *Domain) disks() (all []*etree.Element) {
	devices := child(d.root, "devices")
	if devices == nil {
		return nil
	}
	for _, e := range devices.SelectElements("disk") {
		if targetOf(e) != "" {
			all = append(all, e)
		}
	}
	return all
}

func (d *Domain) disk(target string) *etree.Element {
	for _, e := range d.disks() {
		if targetOf(e) == target {
			return e
		}
	}
	return nil
}

func targetOf(e *etree.Element) string { return attr(child(e, "target"), "dev", "") }

func diskOf(e *etree.Element) Disk {
	src := child(e, "source")
	d := Disk{
		Target: targetOf(e),
		Device: e.SelectAttrValue("device", "disk"),
		Kind:   e.SelectAttrValue("type", "file"),
		Format: attr(child(e, "driver"), "type", "raw"),
		Bus:    attr(child(e, "target"), "bus", ""),

		ReadOnly:  child(e, "readonly") != nil,
		Transient: child(e, "transient") != nil,
		Empty:     src == nil,
		Encrypted: child(e, "encryption") != nil || child(src, "encryption") != nil,
	}
	switch d.Kind {
	case "file":
		d.Path = attr(src, "file", "")
		d.Empty = d.Path == ""
	case "block":
		d.Path = attr(src, "dev", "")
		d.Empty = d.Path == ""
	}
	return d
}

// attr is an attribute of an element, which may be nil.
func attr(e *etree.Element, name, without string) string {
	if e == nil {
		return without
	}
	return e.SelectAttrValue(name, without)
}
