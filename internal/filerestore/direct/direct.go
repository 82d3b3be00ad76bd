// Package direct lists and fetches files of disk images in this process, with the
// readers of internal/fsread: no privilege, no machine, no mount.
//
// Volumes are looked at when a path leads into them, and stay open. What a path
// does not touch is not read: the first listing of a directory takes the sectors
// with the partition table, the head of one file system, and the blocks of the
// directories on the way.
//
// Volume groups are put together from the physical volumes on all images, on
// whole ones and on partitions, when a path or a listing of an image asks for them.
//
// What the readers do not understand is an fsread.UnsupportedError; package vm may.
package direct

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/filerestore"
	"github.com/holdfast-backup/holdfast/internal/filerestore/treestream"
	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/detect"
	"github.com/holdfast-backup/holdfast/internal/fsread/lvm"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// Disk is an image of the snapshot under the name of its archive.
type Disk struct {
	Archive string
	Image   image.Image
}

// Driver looks into the images of one snapshot.
type Driver struct {
	disks []*volume

	groups  func() []*lvm.Group // of all images
	mu      sync.Mutex
	logical map[string]*volume // by "group/volume"
	notices []string
}

var _ filerestore.Driver = (*Driver)(nil)

// New makes a driver for the images, which stay open while it is used.
func New(disks []Disk) *Driver {
	d := &Driver{logical: map[string]*volume{}}
	for _, k := range disks {
		d.disks = append(d.disks, newVolume(d, k.Archive, k.Image))
	}
	d.groups = sync.OnceValue(d.assemble)
	return d
}

// Notices are what readers say of what they opened.
func (d *Driver) Notices() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.notices)
}

func (d *Driver) notice(where string, all []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range all {
		d.notices = append(d.notices, where+": "+n)
	}
}

func (d *Driver) disk(name string) (*volume, error) {
	for _, k := range d.disks {
		if k.name == name {
			return k, nil
		}
	}
	return nil, fmt.Errorf("the snapshot has no image %s: %w", name, fs.ErrNotExist)
}

// assemble finds the volume groups of all images. A disk whose table cannot be
// read has none that could be found.
func (d *Driver) assemble() []*lvm.Group {
	var all []*lvm.Volume
	for _, k := range d.disks {
		for _, v := range k.members(lvmMember) {
			if pv, err := lvm.Read(v.img); err == nil {
				v.uuid = pv.UUID
				all = append(all, pv)
			} else {
				d.notice(v.name, []string{err.Error()})
			}
		}
	}
	groups, rest := lvm.Assemble(all)
	for _, err := range rest {
		d.notice("LVM", []string{err.Error()})
	}
	for _, g := range groups {
		d.notice("volume group "+g.Name, g.Notices)
	}
	return groups
}

// place is where a path leads: a file in a file system, or a level above.
type place struct {
	entries []filerestore.Entry // of a level above files
	v       *volume             // with a file system, else nil
	file    fsread.Entry
	stat    fsread.Stat
}

// resolve follows a path.
func (d *Driver) resolve(p filerestore.Path) (place, error) {
	v, err := d.disk(p.Archive)
	if err != nil {
		return place{}, err
	}
	base, names, whole := filerestore.Path{Archive: p.Archive}, p.Names, true
	for {
		f, err := v.look()
		if err != nil {
			return place{}, err
		}
		if f.Class == detect.FileSystem && !whole {
			return d.file(v, base, names)
		}
		if len(names) == 0 {
			entries, err := d.buckets(v, base, whole)
			return place{entries: entries}, err
		}
		if f.Class == detect.Member && f.Type != lvmMember && f.Type != raidMember {
			return place{}, fsread.Unsupported(base.String(), "%s", f.Type) // what is in it is for the machine to say
		}
		bucket := names[0]
		base, names = base.Join(bucket), names[1:]
		if bucket == filerestore.BucketRaw {
			if f.Class != detect.FileSystem {
				return place{}, fmt.Errorf("%s: what is on the disk is %s, and no file system: %w", base, v.note(), fs.ErrNotExist)
			}
			return d.file(v, base, names)
		}
		next, used, entries, err := d.enter(v, bucket, base, names)
		if err != nil || next == nil {
			return place{entries: entries}, err
		}
		for _, n := range names[:used] {
			base = base.Join(n)
		}
		v, names, whole = next, names[used:], false
	}
}

// enter goes through a bucket to the volume that the next names choose, or lists
// what could be chosen.
func (d *Driver) enter(v *volume, bucket string, base filerestore.Path, names []string) (next *volume, used int, entries []filerestore.Entry, err error) {
	switch bucket {
	case filerestore.BucketPart:
		parts, err := v.partitions()
		if err != nil {
			return nil, 0, nil, err
		}
		if len(names) == 0 {
			return nil, 0, partEntries(base, parts), nil
		}
		for _, k := range parts {
			if strconv.Itoa(k.number) == names[0] {
				return k, 1, nil, nil
			}
		}
		return nil, 0, nil, missing(base.Join(names[0]))
	case filerestore.BucketLVM:
		return d.enterLVM(v, base, names)
	case filerestore.BucketMD, filerestore.BucketZpool:
		return nil, 0, nil, fsread.Unsupported(bucket, "what lies on several disks in this way")
	}
	return nil, 0, nil, missing(base)
}

func missing(p filerestore.Path) error {
	return fmt.Errorf("%s: %w", p, fs.ErrNotExist)
}

// enterLVM is enter for volume groups that have a member on v.
func (d *Driver) enterLVM(v *volume, base filerestore.Path, names []string) (next *volume, used int, entries []filerestore.Entry, err error) {
	groups := d.groups()
	if len(names) == 0 {
		for _, g := range groups {
			entries = append(entries, filerestore.Entry{Path: base.Join(g.Name), Type: filerestore.Dir, Note: plural(len(g.Logical), "volume")})
		}
		return nil, 0, entries, nil
	}
	i := slices.IndexFunc(groups, func(g *lvm.Group) bool { return g.Name == names[0] })
	if i < 0 {
		return nil, 0, nil, missing(base.Join(names[0]))
	}
	g := groups[i]
	if len(names) == 1 {
		for _, l := range g.Logical {
			e := filerestore.Entry{Path: base.Join(g.Name).Join(l.Name), Type: filerestore.Dir, Size: &l.Size}
			if k, err := d.openLogical(g, l.Name); err != nil {
				e.Note = err.Error()
			} else {
				e.Note = k.note()
			}
			entries = append(entries, e)
		}
		return nil, 0, entries, nil
	}
	if !slices.ContainsFunc(g.Logical, func(l lvm.Logical) bool { return l.Name == names[1] }) {
		return nil, 0, nil, missing(base.Join(names[0]).Join(names[1]))
	}
	next, err = d.openLogical(g, names[1])
	return next, 2, nil, err
}

func (d *Driver) openLogical(g *lvm.Group, name string) (*volume, error) {
	key := g.Name + "/" + name
	d.mu.Lock()
	v := d.logical[key]
	d.mu.Unlock()
	if v != nil {
		return v, nil
	}
	img, err := g.Open(name)
	if err != nil {
		return nil, err
	}
	v = newVolume(d, key, img)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.logical[key] = v
	return v, nil
}

// buckets lists what a volume that is no file system has.
func (d *Driver) buckets(v *volume, base filerestore.Path, whole bool) ([]filerestore.Entry, error) {
	f, err := v.look()
	if err != nil {
		return nil, err
	}
	bucket := func(name string) filerestore.Entry {
		return filerestore.Entry{Path: base.Join(name), Type: filerestore.Virtual}
	}
	var all []filerestore.Entry
	switch f.Class {
	case detect.FileSystem: // of a whole disk
		e := bucket(filerestore.BucketRaw)
		e.Note = v.note()
		return append(all, e), nil
	case detect.Table:
		all = append(all, bucket(filerestore.BucketPart))
	case detect.Member:
	case detect.Swap, detect.Nothing:
		return nil, fmt.Errorf("%s holds no files: what is on it is %s: %w", base, v.note(), fs.ErrNotExist)
	}
	if whole && len(v.members(raidMember)) > 0 { // listed here, and read in a machine
		all = append(all, bucket(filerestore.BucketMD))
	}
	lvms := len(v.members(lvmMember)) > 0
	if lvms && whole {
		all = append(all, bucket(filerestore.BucketLVM))
	}
	if len(all) == 0 {
		return nil, fsread.Unsupported(v.name, "%s", v.note())
	}
	return all, nil
}

func partEntries(base filerestore.Path, parts []*volume) (all []filerestore.Entry) {
	for _, k := range parts {
		size := k.img.Size()
		all = append(all, filerestore.Entry{Path: base.Join(strconv.Itoa(k.number)), Type: filerestore.Dir, Size: &size, Note: k.note()})
	}
	return all
}

// file follows names inside a file system. No symbolic link is followed.
func (d *Driver) file(v *volume, base filerestore.Path, names []string) (place, error) {
	f, err := v.open()
	if err != nil {
		return place{}, err
	}
	at := place{v: v, file: fsread.Entry{ID: f.Root()}}
	if at.stat, err = f.Stat(f.Root()); err != nil {
		return place{}, err
	}
	for _, n := range names {
		if at.stat.Kind == fsread.Symlink {
			target, err := f.Readlink(at.stat.ID)
			if err != nil {
				return place{}, err
			}
			return place{}, fmt.Errorf("%s is a symbolic link to %q, which is not followed: %w", base, target, fs.ErrNotExist)
		}
		base = base.Join(n)
		at.file, err = f.Lookup(at.file.ID, n)
		if errors.Is(err, fsread.ErrNotExist) || errors.Is(err, fsread.ErrNotDir) {
			return place{}, missing(base)
		}
		if err == nil {
			at.stat, err = f.Stat(at.file.ID)
		}
		if err != nil {
			return place{}, fmt.Errorf("%s: %w", base, err)
		}
	}
	return at, nil
}

// List lists what is at a path.
func (d *Driver) List(ctx context.Context, p filerestore.Path) ([]filerestore.Entry, error) {
	at, err := d.resolve(p)
	if err != nil || at.v == nil {
		return at.entries, err
	}
	if at.stat.Kind != fsread.Directory {
		return []filerestore.Entry{entryOf(p, at.stat)}, nil
	}
	f, err := at.v.open()
	if err != nil {
		return nil, err
	}
	var all []filerestore.Entry
	err = f.ReadDir(at.file.ID, func(e fsread.Entry) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		st, err := f.Stat(e.ID)
		if err != nil { // the name is there, and that is what can be said
			st = fsread.Stat{Kind: e.Kind}
			d.notice(p.Join(e.Name).String(), []string{err.Error()})
		}
		all = append(all, entryOf(p.Join(e.Name), st))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	return all, nil
}

func entryOf(p filerestore.Path, st fsread.Stat) filerestore.Entry {
	e := filerestore.Entry{Path: p, Type: map[fsread.Kind]filerestore.Type{
		fsread.Directory: filerestore.Dir, fsread.Symlink: filerestore.Symlink, fsread.BlockDevice: filerestore.BlockDevice,
		fsread.CharDevice: filerestore.CharDevice, fsread.FIFO: filerestore.FIFO, fsread.Socket: filerestore.Socket,
	}[st.Kind]}
	if e.Type == 0 {
		e.Type = filerestore.File
	}
	if st.Kind == fsread.Regular {
		mtime := st.Modified.Unix()
		e.Size, e.Mtime = &st.Size, &mtime
	}
	return e
}

// Open opens what a path names.
func (d *Driver) Open(_ context.Context, p filerestore.Path, o filerestore.OpenOptions) (filerestore.Part, error) {
	at, err := d.resolve(p)
	if err != nil {
		return nil, err
	}
	if at.v == nil {
		return nil, fmt.Errorf("%w: %s is a list of volumes, choose one of them", filerestore.ErrPath, p)
	}
	f, err := at.v.open()
	if err != nil {
		return nil, err
	}
	src, err := treestream.New(f, at.file, treestream.Options{Name: o.Name, Follow: o.Follow, Metadata: o.Metadata, Problem: o.Problem})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	return part{src}, nil
}

// part is a source that holds nothing open by itself.
type part struct{ *treestream.Source }

func (part) Close() error { return nil }

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}
