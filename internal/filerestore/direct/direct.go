// Package direct lists and fetches files of disk images in this process, with the
// readers of internal/fsread: no privilege, no machine, no mount.
//
// Volumes are looked at when a path leads into them, and stay open. What a path
// does not touch is not read: the first listing of a directory takes the sectors
// with the partition table, the head of one file system, and the blocks of the
// directories on the way.
//
// Arrays and volume groups are put together from their members on all images, on
// whole ones, on partitions and in encrypted volumes, groups on arrays too, when a path
// or a listing of an image asks for them. So are the devices of a btrfs, which may be
// logical volumes as well, when it is opened.
//
// An encrypted volume is what it holds if the passphrase that was given opens it. It is
// tried on those that a path leads into, and on all of an image when its arrays and
// groups are asked for, [maxTries] in all: each try may take seconds, and a GiB of memory
// as long as it takes.
//
// What the readers do not understand is an fsread.UnsupportedError; package vm may.
package direct

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
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

// Options say how a driver reads.
type Options struct {
	Passphrase []byte // of encrypted volumes; nil: none was given
}

// Driver looks into the images of one snapshot.
type Driver struct {
	disks []*volume
	o     Options

	arrays func() arrays       // of all images
	groups func() []*lvm.Group // of all images and arrays

	unlocking sync.Mutex // one at a time, for the memory that it takes
	tries     int

	mu      sync.Mutex
	logical map[string]*volume // by "group/volume"
	notices []string
}

var _ filerestore.Driver = (*Driver)(nil)

// New makes a driver for the images, which stay open while it is used.
func New(disks []Disk, o Options) *Driver {
	d := &Driver{o: o, logical: map[string]*volume{}}
	for _, k := range disks {
		d.disks = append(d.disks, newVolume(d, k.Archive, k.Image))
	}
	d.arrays = sync.OnceValue(d.findArrays)
	d.groups = sync.OnceValue(d.findGroups)
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
		if v, err = v.clear(); err != nil {
			return place{}, fmt.Errorf("%s: %w", base, err)
		}
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
	var names []fsread.Entry
	err = f.ReadDir(at.file.ID, func(e fsread.Entry) error {
		names = append(names, e)
		return context.Cause(ctx)
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	return d.stats(ctx, f, p, names)
}

// statsAtOnce is how many files are looked at side by side: they may lie far from
// each other, and the image far from here.
const statsAtOnce = 16

// stats says of each name in a directory what it is.
func (d *Driver) stats(ctx context.Context, f fsread.FS, p filerestore.Path, names []fsread.Entry) ([]filerestore.Entry, error) {
	all, failed := make([]filerestore.Entry, len(names)), make([]error, len(names))
	var work sync.WaitGroup
	for k := range statsAtOnce {
		work.Go(func() {
			for i := k * len(names) / statsAtOnce; i < (k+1)*len(names)/statsAtOnce && ctx.Err() == nil; i++ {
				var st fsread.Stat
				if st, failed[i] = f.Stat(names[i].ID); failed[i] != nil { // the name is there, and that is what can be said
					st = fsread.Stat{Kind: names[i].Kind}
				}
				all[i] = entryOf(p.Join(names[i].Name), st)
			}
		})
	}
	work.Wait()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%s: %w", p, context.Cause(ctx))
	}
	for i, err := range failed {
		if err != nil {
			d.notice(p.Join(names[i].Name).String(), []string{err.Error()})
		}
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
