package inside

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/appliance/guest"
)

// throughLoop gives a volume of a kind that has no partitions a loop device, once, and
// returns its name.
func (v volume) throughLoop() (name string, err error) {
	real, err := filepath.EvalSymlinks(v.dev)
	if err != nil {
		return "", err
	}
	if err := guest.Load("loop"); err != nil {
		return "", err
	}
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return "", err
	}
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.TrimSpace(string(b)) == real {
			return filepath.Base(filepath.Dir(filepath.Dir(f))), nil
		}
	}
	backing, err := os.OpenFile(real, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer backing.Close()
	control, err := os.Open("/dev/loop-control")
	if err != nil {
		return "", fmt.Errorf("partitions of %s: %w", v.dev, err)
	}
	defer control.Close()
	n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return "", fmt.Errorf("partitions of %s: a loop device: %w", v.dev, err)
	}
	name = "loop" + strconv.Itoa(n)
	loop, err := os.OpenFile("/dev/"+name, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer loop.Close()
	config := unix.LoopConfig{Fd: uint32(backing.Fd())}
	config.Info.Flags = unix.LO_FLAGS_PARTSCAN
	if err := unix.IoctlLoopConfigure(int(loop.Fd()), &config); err != nil {
		return "", fmt.Errorf("partitions of %s: a loop device: %w", v.dev, err)
	}
	return name, nil
}
