package libvirt

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	lv "github.com/digitalocean/go-libvirt"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/guest/libvirt/domxml"
)

// layout is a domain to be: where everything of a snapshot goes.
type layout struct {
	desc  Description
	def   *domxml.Domain
	name  string
	uuid  string
	disks []diskPlace
	files []filePlace
	tpm   names.Archive // "" : none
}

// diskPlace is where a disk goes.
type diskPlace struct {
	DiskDescription
	Place domxml.Place
}

// filePlace is where another file goes.
type filePlace struct {
	archive names.Archive
	path    string
}

// newLayout decides names and places. It changes nothing.
func newLayout(desc Description, def *domxml.Domain, o RestoreOptions) (*layout, error) {
	l := &layout{desc: desc, def: def, name: def.Name(), uuid: def.UUID()}
	if o.Name != "" {
		l.name = o.Name
		def.SetName(o.Name)
	}
	if o.NewIDs || l.uuid == "" {
		l.uuid = newUUID(rand.Reader)
		def.SetUUID(l.uuid)
		def.DropMACs()
	}
	for target := range o.Places {
		if !slices.ContainsFunc(desc.Disks, func(d DiskDescription) bool { return d.Target == target }) {
			return nil, fmt.Errorf("the snapshot has no disk %q to be put elsewhere", target)
		}
	}
	for _, d := range desc.Disks {
		p, err := l.place(d, o)
		if err != nil {
			return nil, err
		}
		if !def.SetDisk(d.Target, p) {
			return nil, fmt.Errorf("disk %s is not in the definition of domain %s: the snapshot is damaged", d.Target, l.name)
		}
		l.disks = append(l.disks, diskPlace{d, p})
	}
	return l, l.placeFiles(o)
}

func (l *layout) place(d DiskDescription, o RestoreOptions) (domxml.Place, error) {
	format := o.Format
	if format == "" {
		format = d.Format
	}
	if format != "raw" && format != "qcow2" {
		format = "qcow2"
	}
	path := o.Places[d.Target]
	switch {
	case path != "":
	case o.Dir != "":
		path = filepath.Join(o.Dir, l.name+"-"+d.Target+"."+format)
	case d.Path != "":
		path = d.Path
	default:
		return domxml.Place{}, fmt.Errorf("disk %s came from a source of kind %q: say which file or device it is to be, or name a directory", d.Target, d.Kind)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return domxml.Place{}, err
	}
	info, err := os.Stat(path)
	if err == nil && info.Mode()&fs.ModeDevice != 0 {
		return domxml.Place{Path: path, Block: true, Format: "raw"}, nil
	}
	if d.Kind == "block" && path == d.Path {
		return domxml.Place{}, fmt.Errorf("disk %s was the block device %s, which is not here: say which file or device it is to be, or name a directory", d.Target, path)
	}
	return domxml.Place{Path: path, Format: format}, nil
}

// placeFiles finds places for firmware and the like. What the host has where the
// domain looks for it is left alone, but for the variables, which are the
// domain's own.
func (l *layout) placeFiles(o RestoreOptions) error {
	fw := l.def.Firmware()
	dir := o.Dir
	if dir == "" && len(l.disks) > 0 {
		dir = filepath.Dir(l.disks[0].Place.Path)
	}
	if a, ok, err := l.archive("nvram"); ok && fw.NVRAM != "" {
		path := fw.NVRAM
		if o.Dir != "" {
			path = filepath.Join(o.Dir, l.name+"_VARS.fd")
		} else if l.name != l.desc.Name {
			path = filepath.Join(filepath.Dir(path), l.name+"_VARS.fd")
		}
		l.def.SetNVRAM(path)
		l.files = append(l.files, filePlace{a, path})
	} else if err != nil {
		return err
	}
	for _, f := range []struct{ kind, path, suffix string }{
		{domxml.Loader, fw.Loader, "_CODE.fd"},
		{domxml.Kernel, fw.Kernel, ".kernel"},
		{domxml.Initrd, fw.Initrd, ".initrd"},
	} {
		a, ok, err := l.archive(f.kind)
		if err != nil {
			return err
		}
		if _, err := os.Stat(f.path); !ok || err == nil {
			continue
		}
		path := filepath.Join(dir, l.name+f.suffix)
		l.def.SetBoot(f.kind, path)
		l.files = append(l.files, filePlace{a, path})
	}
	var err error
	l.tpm, _, err = l.archive("tpm")
	return err
}

// archive is the one of a kind of file.
func (l *layout) archive(kind string) (names.Archive, bool, error) {
	s, ok := l.desc.Files[kind]
	if !ok {
		return "", false, nil
	}
	a, err := names.ParseArchive(s)
	return a, err == nil, err
}

// paths are all files that a restore makes.
func (l *layout) paths() []string {
	var all []string
	for _, d := range l.disks {
		if !d.Place.Block {
			all = append(all, d.Place.Path)
		}
	}
	for _, f := range l.files {
		all = append(all, f.path)
	}
	return all
}

// free refuses a domain that would take the place of another one, or of files.
func (c *Conn) free(l *layout, replace bool) error {
	byName, nerr := c.l.DomainLookupByName(l.name)
	id, ok := parseUUID(l.uuid)
	if !ok {
		return fmt.Errorf("%w: UUID %.60q", domxml.ErrFormat, l.uuid)
	}
	byID, ierr := c.l.DomainLookupByUUID(id)
	switch {
	case nerr != nil && !is(nerr, lv.ErrNoDomain):
		return fmt.Errorf("look for domain %s: %w", l.name, nerr)
	case ierr != nil && !is(ierr, lv.ErrNoDomain):
		return fmt.Errorf("look for domain %s: %w", l.uuid, ierr)
	case ierr == nil && byID.Name != l.name:
		return fmt.Errorf("%w: domain %s has the UUID of the one in the snapshot; a domain beside it needs new identities", ErrExists, byID.Name)
	case nerr == nil && byName.UUID != id:
		return fmt.Errorf("%w: domain %s, which is another one; choose a new name", ErrExists, l.name)
	case nerr == nil && !replace:
		return fmt.Errorf("%w: domain %s; replace it, or choose a new name with new identities", ErrExists, l.name)
	case nerr == nil:
		if active, err := c.l.DomainIsActive(byName); err != nil || active != 0 {
			return errors.Join(err, fmt.Errorf("%w: domain %s runs: shut it down before it is replaced", ErrExists, l.name))
		}
	}
	if replace {
		return nil
	}
	for _, p := range l.paths() {
		if _, err := os.Lstat(p); err == nil {
			return fmt.Errorf("%w: %s; replace it, or name another directory", ErrExists, p)
		}
	}
	return nil
}

// newUUID makes a random one (RFC 9562, version 4).
func newUUID(random io.Reader) string {
	var u lv.UUID
	if _, err := io.ReadFull(random, u[:]); err != nil { // crypto/rand does not fail
		panic("libvirt: " + err.Error())
	}
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return formatUUID(u)
}
