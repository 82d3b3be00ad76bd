package inside

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/appliance/guest"
	"github.com/holdfast-backup/holdfast/internal/filerestore"
	"github.com/holdfast-backup/holdfast/internal/fsread/md"
)

// member is a volume of an array, by its superblock.
type member struct {
	volume
	set          string // the array's UUID
	name         string
	major, minor int32 // of the superblock's format
	level        int32
}

// array is the members that belong together.
type array struct {
	name    string
	members []member
}

const (
	mdMagic = 0xa92b4efc
	sbSize  = 4096
)

// readMember reads a superblock: versions 1.1, 1.2, 1.0 and 0.90, at the places that
// these have.
func readMember(v volume) (member, error) {
	d, err := v.open()
	if err != nil {
		return member{}, err
	}
	defer d.Close()
	le := binary.LittleEndian
	b := make([]byte, sbSize)
	for _, at := range []struct {
		off   int64
		minor int32
	}{{0, 1}, {4096, 2}, {(d.size - 8<<10) &^ 4095, 0}} {
		if _, err := d.ReadAt(b, at.off); err != nil && !errors.Is(err, io.EOF) {
			return member{}, err
		}
		if le.Uint32(b) != mdMagic || le.Uint32(b[4:]) != 1 || le.Uint64(b[144:]) != uint64(at.off/512) {
			continue
		}
		name := strings.TrimRight(string(b[32:64]), "\x00")
		if _, after, ok := strings.Cut(name, ":"); ok { // the machine that made it comes before
			name = after
		}
		return member{volume: v, set: hex.EncodeToString(b[16:32]), name: name, major: 1, minor: at.minor, level: int32(le.Uint32(b[72:]))}, nil
	}
	if _, err := d.ReadAt(b, d.size&^(64<<10-1)-64<<10); err != nil && !errors.Is(err, io.EOF) {
		return member{}, err
	}
	if le.Uint32(b) != mdMagic || le.Uint32(b[4:]) != 0 {
		return member{}, errors.New("its superblock is of no version that is known")
	}
	set := hex.EncodeToString(b[20:24]) + hex.EncodeToString(b[52:64])
	return member{volume: v, set: set, name: fmt.Sprintf("md%d", le.Uint32(b[44:])), minor: 90, level: int32(le.Uint32(b[28:]))}, nil
}

// arrays finds the arrays on all disks and on what is unlocked of them.
func (m *machine) arrays() (all []array, err error) {
	var bad []error
	for _, v := range m.allMembers(raidType) {
		k, err := readMember(v)
		if err != nil {
			bad = append(bad, fmt.Errorf("%s: %w", v.dev, err))
			continue
		}
		i := slices.IndexFunc(all, func(a array) bool { return a.members[0].set == k.set })
		if i < 0 {
			i, all = len(all), append(all, array{name: k.name})
		}
		all[i].members = append(all[i].members, k)
	}
	for i := range all {
		a := &all[i]
		taken := slices.ContainsFunc(all[:i], func(o array) bool { return o.name == a.name })
		if a.name = md.PathName(a.name, a.members[0].set); taken {
			a.name = a.members[0].set
		}
		if _, err := a.volume(); err != nil {
			bad = append(bad, fmt.Errorf("array %s: %w", a.name, err))
		}
	}
	return all, errors.Join(bad...)
}

// levelModules are those of a level of RAID, as superblocks number them.
var levelModules = map[int32]string{-1: "linear", 0: "raid0", 1: "raid1", 4: "raid456", 5: "raid456", 6: "raid456", 10: "raid10"}

// The kernel's structures of md, and the requests for them.
type (
	mdArrayInfo struct {
		Major, Minor, Patch int32
		_                   [15]int32
	}
	mdDiskInfo struct{ Number, Major, Minor, RaidDisk, State int32 }
)

const (
	mdSetArrayInfo = 0x40480923
	mdAddNewDisk   = 0x40140921
	mdRunArray     = 0x400c0930
)

// volume assembles the array, once. It is not written to before somebody else does:
// nothing is resynchronised.
func (a *array) volume() (volume, error) {
	mark := "/run/array-" + a.members[0].set
	if b, err := os.ReadFile(mark); err == nil {
		return volume{dev: string(b)}, nil
	}
	level := a.members[0].level
	driver, ok := levelModules[level]
	if !ok {
		return volume{}, fmt.Errorf("a RAID of level %d", level)
	}
	if err := guest.Load("md-mod", driver); err != nil {
		return volume{}, err
	}
	for name, value := range map[string]string{"start_ro": "1", "start_dirty_degraded": "1"} {
		if err := os.WriteFile("/sys/module/md_mod/parameters/"+name, []byte(value), 0o600); err != nil {
			return volume{}, err
		}
	}
	dev := ""
	for n := 127; ; n-- {
		if dev = fmt.Sprintf("/dev/md%d", n); !exists(dev) {
			break
		}
		if n == 0 {
			return volume{}, errors.New("there are too many")
		}
	}
	if err := os.WriteFile("/sys/module/md_mod/parameters/new_array", []byte(dev[len("/dev/"):]), 0o600); err != nil {
		return volume{}, err
	}
	if err := a.assemble(dev); err != nil {
		return volume{}, err
	}
	return volume{dev: dev}, os.WriteFile(mark, []byte(dev), 0o600)
}

func (a *array) assemble(dev string) error {
	f, err := os.OpenFile(dev, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info := mdArrayInfo{Major: a.members[0].major, Minor: a.members[0].minor}
	if err := ioctl(f, mdSetArrayInfo, unsafe.Pointer(&info)); err != nil { //nolint:gosec // the kernel's structure
		return fmt.Errorf("prepare: %w", err)
	}
	for _, k := range a.members {
		var st unix.Stat_t
		if err := unix.Stat(k.dev, &st); err != nil {
			return err
		}
		disk := mdDiskInfo{Major: int32(unix.Major(st.Rdev)), Minor: int32(unix.Minor(st.Rdev))}
		if err := ioctl(f, mdAddNewDisk, unsafe.Pointer(&disk)); err != nil { //nolint:gosec // the kernel's structure
			return fmt.Errorf("add %s: %w", k.dev, err)
		}
	}
	if err := ioctl(f, mdRunArray, nil); err != nil {
		return fmt.Errorf("start with %s: %w", plural(len(a.members), "member"), err)
	}
	return nil
}

// enterMD goes to an array, or lists them.
func (m *machine) enterMD(base filerestore.Path, names []string) (next *volume, used int, items []Item, err error) {
	all, bad := m.arrays()
	for _, a := range all {
		v, err := a.volume()
		switch {
		case len(names) == 0:
			i := Item{Name: []byte(a.name), Type: byte(filerestore.Dir)}
			if err != nil {
				i.Note = err.Error()
			} else {
				size := v.size()
				i.Size, i.Note = &size, v.note()
			}
			items = append(items, i)
		case a.name == names[0] && err != nil:
			return nil, 0, nil, fmt.Errorf("%s: %w", base.Join(a.name), err)
		case a.name == names[0]:
			return &v, 1, nil, nil
		}
	}
	if len(names) > 0 {
		return nil, 0, nil, missing(base.Join(names[0]))
	}
	if bad != nil {
		m.notice("md: %v", bad)
	}
	return nil, 0, items, nil
}
