package libvirt

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/guest/libvirt/domxml"
)

// wanted is a disk that goes into a point, and what is to be done with it.
type wanted struct {
	domxml.Disk
	size int64 // bytes, as the guest sees it; 0: not known yet
	mode guest.Mode
	base guest.Bitmap // with Reuse
	why  string
}

// name is that of the disk in the point.
func (w wanted) name() string { return diskPrefix + w.Target }

// disks chooses the disks of a point. Whether base bitmaps can be used is asked
// for later.
func (g *Guest) disks(def *domxml.Domain, req guest.Request) ([]wanted, error) {
	for _, x := range slices.Concat(g.opts.Disks, g.opts.Skip) {
		if !slices.Contains(targetsOf(def), x) {
			return nil, fmt.Errorf("domain %s has no disk %s: it has %s", g.dom.Name, x, strings.Join(targetsOf(def), ", "))
		}
	}
	var all []wanted
	for _, d := range def.Disks() {
		if g.wants(d) {
			w := wanted{Disk: d}
			w.mode, w.why = modeOf(d, req)
			all = append(all, w)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("domain %s has no disk to back up", g.dom.Name)
	}
	return all, nil
}

// wants reports whether a disk goes into points.
func (g *Guest) wants(d domxml.Disk) bool {
	return d.Holds() && !slices.Contains(g.opts.Skip, d.Target) && (g.opts.Disks == nil || slices.Contains(g.opts.Disks, d.Target))
}

// modeOf says whether a disk can have bitmaps.
func modeOf(d domxml.Disk, req guest.Request) (guest.Mode, string) {
	switch {
	case req.New == "":
		return guest.None, ""
	case d.Format != "qcow2":
		return guest.None, "a " + d.Format + " image has no bitmaps"
	case isVersion2(d.Path):
		return guest.None, "a qcow2 image of version 2 has no bitmaps: 'qemu-img amend -o compat=1.1' makes it one of version 3"
	}
	return guest.New, ""
}

// isVersion2 looks into a qcow2 file; one that cannot be read is taken for
// newer.
func isVersion2(path string) bool {
	if path == "" {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }() // was only read
	head := make([]byte, 8)
	_, err = f.ReadAt(head, 0)
	return err == nil && bytes.Equal(head, []byte("QFI\xfb\x00\x00\x00\x02"))
}

// rebase settles what a disk's base bitmap is good for, once its size and the
// answer of who keeps the bitmap are known.
func (w *wanted) rebase(base guest.Base, refused string) {
	switch {
	case base.Size != w.size:
		w.mode, w.why = guest.MissingRecreated, fmt.Sprintf("the disk had %d bytes and has %d now", base.Size, w.size)
	case refused != "":
		w.mode, w.why = guest.MissingRecreated, refused
	default:
		w.mode, w.base = guest.Reuse, base.Bitmap
	}
}

// bitmap is what begins with the point.
func (w wanted) bitmap(req guest.Request) guest.Bitmap {
	if w.mode == guest.None {
		return ""
	}
	return req.New
}

// bases are the bitmaps that a request would keep.
func bases(req guest.Request) []guest.Bitmap {
	var all []guest.Bitmap
	for _, b := range req.Base {
		if !slices.Contains(all, b.Bitmap) {
			all = append(all, b.Bitmap)
		}
	}
	slices.Sort(all)
	return all
}

func targetsOf(def *domxml.Domain) []string {
	var all []string
	for _, d := range def.Disks() {
		all = append(all, d.Target)
	}
	return all
}
