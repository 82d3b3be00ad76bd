package inside

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"github.com/holdfast-backup/holdfast/internal/filerestore"
	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/detect"
)

// place is where a path leads: names in a mounted file system, or a level above.
type place struct {
	items []Item
	v     volume // that is locked
	mount string // a directory, with a file system
	names []string
	at    filerestore.Path // mount's
}

// resolve follows a path, assembles and mounts what lies on the way. An encrypted
// volume is what it holds.
func (m *machine) resolve(p filerestore.Path) (place, error) {
	unlock, err := lock()
	if err != nil {
		return place{}, err
	}
	defer unlock()
	dev := m.disks[p.Archive]
	if dev == "" {
		return place{}, missing(filerestore.Path{Archive: p.Archive})
	}
	v, base, names, whole := volume{dev: dev}, filerestore.Path{Archive: p.Archive}, p.Names, true
	for {
		clear, err := v.decrypted()
		if errors.Is(err, errLocked) && m.stop {
			return place{v: v, at: base}, nil
		}
		if err != nil {
			return place{}, fmt.Errorf("%s: %w", base, err)
		}
		v = clear
		f, err := v.look()
		if err != nil {
			return place{}, err
		}
		if f.Class == detect.FileSystem && !whole {
			return m.mounted(v, f, base, names)
		}
		if len(names) == 0 {
			items, err := m.buckets(v, f, base, whole)
			return place{items: items}, err
		}
		bucket := names[0]
		base, names = base.Join(bucket), names[1:]
		if bucket == filerestore.BucketRaw && f.Class == detect.FileSystem {
			return m.mounted(v, f, base, names)
		}
		next, used, items, err := m.enter(v, f, bucket, base, names)
		if err != nil || next == nil {
			return place{items: items}, err
		}
		for _, n := range names[:used] {
			base = base.Join(n)
		}
		v, names, whole = *next, names[used:], false
	}
}

func missing(p filerestore.Path) error { return fmt.Errorf("%s: %w", p, fs.ErrNotExist) }

// enter goes through a bucket to the volume that the next names choose, or lists
// what could be chosen.
func (m *machine) enter(v volume, f detect.Finding, bucket string, base filerestore.Path, names []string) (next *volume, used int, items []Item, err error) {
	switch {
	case bucket == filerestore.BucketPart && f.Class == detect.Table:
		parts, err := v.partitions()
		if err != nil {
			return nil, 0, nil, err
		}
		if len(names) == 0 {
			return nil, 0, partItems(parts), nil
		}
		for _, p := range parts {
			if strconv.Itoa(p.number) == names[0] {
				return &p.volume, 1, nil, nil
			}
		}
		return nil, 0, nil, missing(base.Join(names[0]))
	case bucket == filerestore.BucketLVM:
		return m.enterLVM(base, names)
	case bucket == filerestore.BucketMD:
		return m.enterMD(base, names)
	case bucket == filerestore.BucketZpool:
		return nil, 0, nil, fsread.Unsupported("zfs", "a pool (the restore machine's kernel has no ZFS)")
	}
	return nil, 0, nil, missing(base)
}

func partItems(parts []partition) (items []Item) {
	for _, p := range parts {
		size := p.size()
		items = append(items, Item{Name: []byte(strconv.Itoa(p.number)), Type: byte(filerestore.Dir), Size: &size, Note: p.note()})
	}
	return items
}

// buckets lists what a volume that is no file system has.
func (m *machine) buckets(v volume, f detect.Finding, base filerestore.Path, whole bool) (items []Item, err error) {
	bucket := func(name, note string) {
		items = append(items, Item{Name: []byte(name), Type: byte(filerestore.Virtual), Note: note})
	}
	switch {
	case f.Class == detect.FileSystem:
		bucket(filerestore.BucketRaw, v.note())
		return items, nil
	case f.Class == detect.Table:
		bucket(filerestore.BucketPart, "")
	case f.Class != detect.Member:
		return nil, fmt.Errorf("%s holds no files: what is on it is %s: %w", base, v.note(), fs.ErrNotExist)
	}
	if whole {
		arrays, locked := v.members(raidType), v.members(luksType)
		if len(arrays) > 0 {
			bucket(filerestore.BucketMD, "")
		}
		if len(v.members(lvmType)) > 0 || len(arrays)+len(locked) > 0 && m.groupsBehind() {
			bucket(filerestore.BucketLVM, "")
		}
	}
	if len(items) == 0 {
		return nil, fsread.Unsupported(base.String(), "%s", v.note())
	}
	return items, nil
}

// groupsBehind reports whether arrays or what is unlocked are members of volume groups.
func (m *machine) groupsBehind() bool {
	if _, err := m.arrays(); err != nil {
		m.notice("md: %v", err)
	}
	out, err := lvm("pvs", "--noheadings", "-o", "pv_name")
	return err == nil && (bytes.Contains(out, []byte("/dev/md")) || bytes.Contains(out, []byte("/dev/mapper/luks-")))
}

// The members that lead further.
const (
	lvmType  = "LVM2_member"
	raidType = "linux_raid_member"
	luksType = "crypto_LUKS"
)
