package holders

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// numbers maps device numbers, as "major:minor", to nodes.
type numbers map[string]string

// OfDevice returns the users of a block device, named as in /sys/class/block, such
// as "loop3" or "sda1". Processes in except are left out.
func OfDevice(name string, except ...int) ([]Holder, error) {
	nodes, err := family(name)
	if err != nil {
		return nil, err
	}
	var hs []Holder
	hs = append(hs, nodes.mounts("/proc/self/mountinfo")...)
	hs = append(hs, nodes.swaps("/proc/swaps")...)
	hs = append(hs, stacked(name)...)
	hs = append(hs, processes(except, func(st *unix.Stat_t) (string, bool) {
		if st.Mode&unix.S_IFMT != unix.S_IFBLK {
			return "", false
		}
		node, ok := nodes[key(uint64(st.Rdev))]
		return node, ok
	})...)
	return hs, nil
}

// OfFile returns the processes that have the file at path open.
func OfFile(path string, except ...int) ([]Holder, error) {
	var want unix.Stat_t
	if err := unix.Stat(path, &want); err != nil {
		return nil, fmt.Errorf("users of %s: %w", path, err)
	}
	return processes(except, func(st *unix.Stat_t) (string, bool) {
		return path, st.Dev == want.Dev && st.Ino == want.Ino
	}), nil
}

// Claimed reports whether something has the device, or a partition of it, for
// itself.
func Claimed(path string) (bool, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.EBUSY) {
		return true, nil
	}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENXIO) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open %s: %w", path, err)
	}
	_ = unix.Close(fd)
	return false, nil
}

func key(dev uint64) string { return fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev)) }

// family is the device and its partitions.
func family(name string) (numbers, error) {
	base := "/sys/class/block/" + name
	own, err := os.ReadFile(base + "/dev")
	if err != nil {
		return nil, fmt.Errorf("users of /dev/%s: %w", name, err)
	}
	n := numbers{strings.TrimSpace(string(own)): "/dev/" + name}
	parts, _ := filepath.Glob(base + "/*/partition")
	for _, p := range parts {
		if b, err := os.ReadFile(filepath.Join(filepath.Dir(p), "dev")); err == nil {
			n[strings.TrimSpace(string(b))] = "/dev/" + filepath.Base(filepath.Dir(p))
		}
	}
	return n, nil
}

// mounts finds the device by number, and by the source column for file systems
// that show a number of their own (btrfs).
func (n numbers) mounts(table string) (hs []Holder) {
	f, err := os.Open(table)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	for s := bufio.NewScanner(f); s.Scan(); {
		left, right, _ := strings.Cut(s.Text(), " - ")
		fields, fs := strings.Fields(left), strings.Fields(right)
		if len(fields) < 5 || len(fs) < 2 {
			continue
		}
		node, ok := n[fields[2]]
		if !ok {
			if node = unescape(fs[1]); !n.has(node) {
				continue
			}
		}
		hs = append(hs, Holder{Kind: "mount", Node: node, Where: unescape(fields[4])})
	}
	return hs
}

func (n numbers) has(node string) bool {
	for _, v := range n {
		if v == node {
			return true
		}
	}
	return false
}

func (n numbers) swaps(table string) (hs []Holder) {
	b, _ := os.ReadFile(table)
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 0 && n.has(unescape(f[0])) {
			hs = append(hs, Holder{Kind: "swap", Node: unescape(f[0])})
		}
	}
	return hs
}

func stacked(name string) (hs []Holder) {
	for _, pattern := range []string{"/sys/class/block/" + name + "/holders/*", "/sys/class/block/" + name + "/" + name + "*/holders/*"} {
		found, _ := filepath.Glob(pattern)
		for _, p := range found {
			node := filepath.Base(filepath.Dir(filepath.Dir(p)))
			hs = append(hs, Holder{Kind: "device", Node: "/dev/" + node, Where: upper(filepath.Base(p))})
		}
	}
	return hs
}

// upper is the node of a device on top, by the name that it was given.
func upper(kernel string) string {
	if b, err := os.ReadFile("/sys/class/block/" + kernel + "/dm/name"); err == nil {
		return "/dev/mapper/" + strings.TrimSpace(string(b))
	}
	return "/dev/" + kernel
}

// processes looks through the descriptors of every process that it may, without
// asking servers of file systems: a stuck one would hang it.
func processes(except []int, is func(*unix.Stat_t) (string, bool)) (hs []Holder) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	skip := map[int]bool{}
	for _, p := range except {
		skip[p] = true
	}
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || skip[pid] {
			continue
		}
		links, err := os.ReadDir(dir + "/fd")
		if err != nil {
			continue
		}
		for _, l := range links {
			path := dir + "/fd/" + l.Name()
			text, err := os.Readlink(path)
			if err != nil || !strings.HasPrefix(text, "/") {
				continue
			}
			var st unix.Statx_t
			if unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE|unix.STATX_INO, &st) != nil {
				continue
			}
			node, ok := is(&unix.Stat_t{
				Dev: unix.Mkdev(st.Dev_major, st.Dev_minor), Rdev: unix.Mkdev(st.Rdev_major, st.Rdev_minor),
				Ino: st.Ino, Mode: uint32(st.Mode),
			})
			if ok {
				hs = append(hs, Holder{Kind: "process", Node: node, PID: pid, Command: command(dir)})
				break
			}
		}
	}
	return hs
}

func command(dir string) string {
	b, err := os.ReadFile(dir + "/comm")
	if err != nil {
		return "?"
	}
	return strings.TrimSpace(string(b))
}

// unescape undoes the octal escapes of the kernel's tables.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
