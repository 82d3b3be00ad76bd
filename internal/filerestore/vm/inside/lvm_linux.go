package inside

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/appliance/guest"
	"github.com/holdfast-backup/holdfast/internal/filerestore"
	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// LVMConfig is what the host's lvm is told in the machine: there is no udev and
// nobody to watch, loop devices are only for partitions, and groups may lie on logical volumes.
const LVMConfig = `devices { scan_lvs=1 use_devicesfile=0 obtain_device_list_from_udev=0 external_device_info_source="none" ` +
	`global_filter=["r|^/dev/loop[0-9]+$|"] hints="none" }
backup { backup=0 archive=0 }
activation { udev_sync=0 udev_rules=0 verify_udev_operations=0 monitoring=0 checks=0 }
global { use_lvmpolld=0 locking_type=1 thin_check_executable="" cache_check_executable="" event_activation=0 }
`

// logical is a logical volume.
type logical struct {
	group, name, segments string
	size                  int64
}

// lvm runs the host's lvm.
func lvm(args ...string) ([]byte, error) {
	if _, err := exec.LookPath("lvm"); err != nil {
		return nil, fsread.Unsupported("lvm", "a volume group (lvm2 is not installed where Holdfast runs, so the restore machine has none)")
	}
	if err := guest.Load("dm-mod"); err != nil {
		return nil, err
	}
	cmd := exec.Command("lvm", args...)
	cmd.Env = append(os.Environ(), "LVM_SYSTEM_DIR=/etc/lvm", "LVM_SUPPRESS_FD_WARNINGS=1", "DM_DISABLE_UDEV=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		text := stderr.Bytes()
		return out, fmt.Errorf("lvm %s: %w: %s", args[0], err, bytes.TrimSpace(text[max(0, len(text)-1000):]))
	}
	return out, nil
}

// logicals lists the volumes that have something in them for users. Arrays may be
// members of groups, so they are assembled before.
func (m *machine) logicals() ([]logical, error) {
	if _, err := m.arrays(); err != nil {
		m.notice("md: %v", err)
	}
	out, err := lvm("lvs", "--noheadings", "--units", "b", "--nosuffix", "--separator", "|", "-o", "vg_name,lv_name,lv_size,segtype")
	if err != nil {
		return nil, err
	}
	var all []logical
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSpace(line), "|")
		if len(f) != 4 || strings.HasSuffix(f[3], "-pool") {
			continue
		}
		size, err := strconv.ParseInt(f[2], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("lvm lvs: %q: %w", line, err)
		}
		l := logical{f[0], f[1], f[3], size}
		if i := slices.IndexFunc(all, func(o logical) bool { return o.group == l.group && o.name == l.name }); i >= 0 {
			all[i].segments += " " + l.segments // a line for each kind of segment
			continue
		}
		all = append(all, l)
	}
	return all, nil
}

// volume activates a logical volume.
func (l logical) volume() (volume, error) {
	v := volume{dev: "/dev/mapper/" + double(l.group) + "-" + double(l.name)}
	if exists(v.dev) {
		return v, nil
	}
	for kind := range strings.FieldsSeq(l.segments) {
		if err := guest.Load(segmentModules(kind)...); err != nil {
			return v, err
		}
	}
	if _, err := lvm("lvchange", "-q", "-ay", "-K", "--ignoremonitoring", l.group+"/"+l.name); err != nil {
		return v, err
	}
	if !exists(v.dev) {
		return v, errors.New("it was activated, and there is no device of it")
	}
	return v, nil
}

// double is how names stand in the name of a device.
func double(s string) string { return strings.ReplaceAll(s, "-", "--") }

func segmentModules(kind string) []string {
	switch {
	case kind == "thin":
		return []string{"dm-thin-pool"}
	case kind == "mirror":
		return []string{"dm-mirror"}
	case kind == "snapshot":
		return []string{"dm-snapshot"}
	case strings.HasPrefix(kind, "raid"):
		return []string{"raid0", "raid1", "raid10", "raid456", "dm-raid"}
	}
	return []string{"dm-snapshot"} // an origin is listed as what it is besides
}

// enterLVM goes to a logical volume, or lists groups and what is in one.
func (m *machine) enterLVM(base filerestore.Path, names []string) (next *volume, used int, items []Item, err error) {
	all, err := m.logicals()
	if err != nil {
		return nil, 0, nil, err
	}
	if len(names) == 0 {
		counts := map[string]int{}
		for _, l := range all {
			if counts[l.group]++; counts[l.group] == 1 {
				items = append(items, Item{Name: []byte(l.group), Type: byte(filerestore.Dir)})
			}
		}
		for i := range items {
			items[i].Note = plural(counts[string(items[i].Name)], "volume")
		}
		return nil, 0, items, nil
	}
	known := false
	for _, l := range all {
		switch {
		case l.group != names[0]:
			continue
		case len(names) > 1 && l.name != names[1]:
		case len(names) > 1:
			v, err := l.volume()
			if err != nil {
				return nil, 0, nil, fmt.Errorf("%s: %w", base.Join(l.group).Join(l.name), err)
			}
			return &v, 2, nil, nil
		default:
			i := Item{Name: []byte(l.name), Type: byte(filerestore.Dir), Size: &l.size}
			if v, err := l.volume(); err != nil {
				i.Note = err.Error()
			} else {
				i.Note = v.note()
			}
			items = append(items, i)
		}
		known = true
	}
	switch {
	case !known:
		return nil, 0, nil, missing(base.Join(names[0]))
	case len(names) > 1:
		return nil, 0, nil, missing(base.Join(names[0]).Join(names[1]))
	}
	return nil, 0, items, nil
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}
