//go:build linux

package inside

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if os.Getenv("HOLDFAST_GUEST") != "1" {
		fmt.Println("these tests run in the appliance only: go test ./test/guest")
		return
	}
	if role := os.Getenv(victimRole); role != "" {
		os.Exit(victim(role))
	}
	os.Exit(m.Run())
}

// disks are what package guest makes: the file systems by partition number.
var disks = []struct {
	node       string
	partitions map[int]string
}{
	{"/dev/vda", map[int]string{1: "ext4", 2: "vfat", 3: "xfs", 4: "btrfs"}},
	{"/dev/vdb", map[int]string{1: "ext4", 5: "vfat"}},
}

// optionsFor mount a file system that may not be written, journal or not.
var optionsFor = map[string]string{"ext4": "noload", "xfs": "norecovery,nouuid"}

// limit bounds one step.
func limit(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 30*time.Second, errors.New("a step took 30 s"))
	t.Cleanup(cancel)
	return ctx
}

// checkPartitions mounts each partition of a device and reads its file.
func checkPartitions(t *testing.T, device string, partitions map[int]string) {
	t.Helper()
	found, err := filepath.Glob(device + "p*")
	if err != nil || len(found) < len(partitions) {
		t.Errorf("%s shows %q, %v: want %d partitions", device, found, err, len(partitions))
	}
	for number, fstype := range partitions {
		node := fmt.Sprintf("%sp%d", device, number)
		dir := t.TempDir()
		if err := unix.Mount(node, dir, fstype, unix.MS_RDONLY, optionsFor[fstype]); err != nil {
			t.Errorf("mount %s as %s: %v", node, fstype, err)
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, "hello"))
		if want := "hello from " + fstype; err != nil || strings.TrimSpace(string(b)) != want {
			t.Errorf("%s (%s): read %q, %v, want %q", node, fstype, b, err, want)
		}
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", node, err)
		}
	}
}
