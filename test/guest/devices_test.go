package guest_test

import (
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/appliance"
	"github.com/holdfast-backup/holdfast/internal/appliance/appliancetest"
)

const module = "github.com/holdfast-backup/holdfast/"

// TestDevices attaches disks to a kernel of its own, as loop and nbd devices,
// and kills who serves them: by tests written for it, by the tests of the packages that do
// this, and by the program itself.
func TestDevices(t *testing.T) {
	vm := appliancetest.Start(t, appliancetest.Spec{
		Modules: []string{"loop", "nbd", "fuse", "vfat", "nls_cp437", "nls_ascii", "xfs", "btrfs"},
		Tools: []string{
			"dd", "cmp", "cp", "diff", "head", "sleep", "sh", "cat", "mount", "umount", "fusermount3", "ps",
			"mkfs.ext4", "fsck.ext4", "mkfs.xfs", "mkfs.btrfs",
		},
		Files: []appliance.File{{Name: "/usr/local/bin/holdfast", From: appliancetest.Build(t, module+"cmd/holdfast")}},
		Drives: []appliance.Drive{
			{Path: gptDisk(t), ReadOnly: true},
			{Path: mbrDisk(t), ReadOnly: true},
		},
		Scratch: 4096, MemoryMB: 1536,
	})
	t.Logf("ready after %v", vm.Boot)
	if testing.Short() {
		vm.TestBinary(t, appliancetest.Tests{Package: module + "test/guest/inside"})
		return
	}
	t.Run("holdfast map", func(t *testing.T) { mapWithTheProgram(t, vm) })
	for _, pkg := range []string{
		"test/guest/inside", "internal/kernel/loop", "internal/kernel/nbdattach", "internal/kernel/fusefile", "internal/mapping",
	} {
		t.Run(pkg, func(t *testing.T) {
			vm.TestBinary(t, appliancetest.Tests{
				Package: module + pkg, Timeout: 6 * time.Minute,
				Env: []string{"GOMEMLIMIT=600MiB"}, // some keep disks in memory
			})
		})
	}
}
