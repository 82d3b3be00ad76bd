package inside

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/fsread/detect"
	"github.com/holdfast-backup/holdfast/internal/fsread/ptable"
)

// machine is the disks, and what is to be told with an answer.
type machine struct {
	disks   map[string]string // archive to device
	order   []string          // archives
	notices []string
	stop    bool // paths end at the first locked volume
}

func openMachine() (*machine, error) {
	b, err := os.ReadFile(DisksFile)
	if err != nil {
		return nil, err
	}
	var bySerial map[string]string
	if err := json.Unmarshal(b, &bySerial); err != nil {
		return nil, fmt.Errorf("%s: %w", DisksFile, err)
	}
	m := &machine{disks: map[string]string{}}
	files, err := filepath.Glob("/sys/block/vd*/serial")
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		serial, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		archive := bySerial[strings.TrimSpace(string(serial))]
		if archive == "" {
			continue
		}
		m.disks[archive] = "/dev/" + filepath.Base(filepath.Dir(f))
		m.order = append(m.order, archive)
	}
	slices.Sort(m.order)
	return m, nil
}

func (m *machine) notice(format string, args ...any) {
	m.notices = append(m.notices, fmt.Sprintf(format, args...))
}

// volume is a block device and what is on it.
type volume struct {
	dev   string // /dev/vda1
	label string // of a partition, in the table
}

// device is a block device as an image.
type device struct {
	*os.File
	size int64
}

func (d device) Size() int64 { return d.size }

func (v volume) open() (device, error) {
	f, err := os.Open(v.dev)
	if err != nil {
		return device{}, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		_ = f.Close()
		return device{}, err
	}
	return device{f, size}, nil
}

// look finds out what is on a volume.
func (v volume) look() (detect.Finding, error) {
	d, err := v.open()
	if err != nil {
		return detect.Finding{}, err
	}
	defer d.Close()
	f, err := detect.Look(d)
	if err != nil {
		return f, fmt.Errorf("%s: %w", v.dev, err)
	}
	return f, nil
}

// sys is the volume's directory in sysfs: of /dev/mapper/x that of dm-0.
func (v volume) sys() (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(v.dev, &st); err != nil {
		return "", fmt.Errorf("%s: %w", v.dev, err)
	}
	return filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)))
}

func (v volume) size() int64 {
	d, err := v.open()
	if err != nil {
		return 0
	}
	defer d.Close()
	return d.size
}

// partition is one of a table.
type partition struct {
	volume
	number int
}

// partitions are those that the kernel has for a volume with a table.
func (v volume) partitions() ([]partition, error) {
	dir, err := v.sys()
	if err != nil {
		return nil, err
	}
	all, err := kernelPartitions(dir)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 && !strings.HasPrefix(filepath.Base(dir), "vd") {
		loop, err := v.throughLoop()
		if err != nil {
			return nil, err
		}
		if all, err = kernelPartitions("/sys/class/block/" + loop); err != nil {
			return nil, err
		}
	}
	v.name(all)
	return all, nil
}

func kernelPartitions(dir string) (all []partition, err error) {
	files, err := filepath.Glob(dir + "/*/partition")
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			return nil, err
		}
		all = append(all, partition{volume{dev: "/dev/" + filepath.Base(filepath.Dir(f))}, n})
	}
	slices.SortFunc(all, func(a, b partition) int { return a.number - b.number })
	return all, nil
}

// name adds the names that a GPT has. They are only for people.
func (v volume) name(all []partition) {
	d, err := v.open()
	if err != nil {
		return
	}
	defer d.Close()
	t, err := ptable.Read(d)
	if err != nil {
		return
	}
	for i := range all {
		for _, p := range t.Partitions {
			if p.Number == all[i].number {
				all[i].label = p.Name
			}
		}
	}
}

// members are the volumes with a type of member, such as those of LVM, among v and its
// partitions.
func (v volume) members(kind string) (found []volume) {
	f, err := v.look()
	switch {
	case err != nil:
	case f.Type == kind:
		return []volume{v}
	case f.Class == detect.Table:
		parts, err := v.partitions()
		if err != nil {
			return nil
		}
		for _, p := range parts {
			if f, err := p.look(); err == nil && f.Type == kind {
				found = append(found, p.volume)
			}
		}
	}
	return found
}

// allMembers are those on all disks.
func (m *machine) allMembers(kind string) (found []volume) {
	for _, a := range m.order {
		found = append(found, volume{dev: m.disks[a]}.members(kind)...)
	}
	return found
}

// note says what is on a volume.
func (v volume) note() string {
	f, err := v.look()
	if err != nil {
		return err.Error()
	}
	what := f.Type
	if f.Class == detect.Nothing {
		what = "nothing that is known"
	}
	if f.Type == luksType {
		if _, err := os.Stat(v.clear().dev); err == nil {
			what = "unlocked, with " + v.clear().note()
		} else {
			what += ", locked"
		}
	}
	if v.label != "" {
		what += ", partition " + v.label
	}
	return what
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return !errors.Is(err, fs.ErrNotExist)
}
