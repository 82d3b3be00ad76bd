package direct

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"github.com/holdfast-backup/holdfast/internal/filerestore"
	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/detect"
)

// enter goes through a bucket to the volume that the next names choose, or lists
// what could be chosen.
func (d *Driver) enter(v *volume, bucket string, base filerestore.Path, names []string) (next *volume, used int, entries []filerestore.Entry, err error) {
	switch bucket {
	case filerestore.BucketPart:
		parts, err := v.partitions()
		if errors.Is(err, fsread.ErrOther) {
			return nil, 0, nil, fmt.Errorf("%s: there is no partition table, what is on the disk is %s: %w", base, v.note(), fs.ErrNotExist)
		}
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
		return d.enterLVM(base, names)
	case filerestore.BucketMD:
		return d.enterMD(base, names)
	case filerestore.BucketZpool:
		return nil, 0, nil, fsread.Unsupported("zfs", "a pool")
	}
	return nil, 0, nil, missing(base)
}

func missing(p filerestore.Path) error {
	return fmt.Errorf("%s: %w", p, fs.ErrNotExist)
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
	if whole {
		if len(v.members(raidMember)) > 0 {
			all = append(all, bucket(filerestore.BucketMD))
		}
		if len(v.members(lvmMember)) > 0 || d.behindArrays(v) {
			all = append(all, bucket(filerestore.BucketLVM))
		}
	}
	elsewhere := map[string]string{raidMember: filerestore.BucketMD, lvmMember: filerestore.BucketLVM}[f.Type]
	if elsewhere != "" && !whole {
		return nil, fmt.Errorf("%s is one of several volumes (%s); what they hold together is below /%s/%s: %w", base, f.Type, base.Archive, elsewhere, fs.ErrNotExist)
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
