package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/kernel/dm"
	"golang.org/x/sys/unix"
)

// devText is a device number as the kernel's texts have it.
func devText(dev uint64) string { return fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev)) }

func parseDev(s string) (uint64, bool) {
	major, minor, _ := strings.Cut(s, ":")
	a, err := strconv.ParseUint(major, 10, 12)
	b, berr := strconv.ParseUint(minor, 10, 20)
	return unix.Mkdev(uint32(a), uint32(b)), err == nil && berr == nil
}

func openMapper() (*dm.Control, error) { return dm.Open() }

// nodeOf finds the node of a device by its number: by the name in the kernel's
// uevent file, and where that has none by the name in sysfs.
func nodeOf(sys string, dev uint64) (string, error) {
	dir := filepath.Join(sys, "dev/block", devText(dev))
	b, err := os.ReadFile(filepath.Join(dir, "uevent"))
	for line := range strings.Lines(string(b)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "DEVNAME="); ok && filepath.IsLocal(name) {
			return filepath.Join("/dev", name), nil
		}
	}
	link, lerr := os.Readlink(dir)
	if lerr != nil {
		return "", fmt.Errorf("device %s has no name: %w", devText(dev), errors.Join(err, lerr))
	}
	// sysfs has "!" where names have "/".
	return filepath.Join("/dev", strings.ReplaceAll(filepath.Base(link), "!", "/")), nil
}

// readAt reads the header of the device with this number.
func readAt(path string, dev uint64) (Info, error) {
	l, err := look(path)
	if err != nil {
		return Info{}, err
	}
	defer l.close()
	if l.rdev != dev {
		return Info{}, fmt.Errorf("%s is not the device %s here", path, devText(dev))
	}
	return l.info()
}

// kernelName is what the kernel calls a device-mapper device.
func kernelName(dev uint64) string { return fmt.Sprint("dm-", unix.Minor(dev)) }
