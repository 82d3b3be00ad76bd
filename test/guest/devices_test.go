package guest_test

import (
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/appliance"
	"github.com/holdfast-backup/holdfast/internal/appliance/appliancetest"
)

const module = "github.com/holdfast-backup/holdfast/"

// TestDevices attaches disks to a kernel of its own, as loop and nbd devices,
// and kills who serves them.
func TestDevices(t *testing.T) {
	vm := appliancetest.Start(t, appliancetest.Spec{
		Modules: []string{"loop", "nbd", "fuse", "vfat", "nls_cp437", "nls_ascii", "xfs", "btrfs"},
		Drives: []appliance.Drive{
			{Path: gptDisk(t), ReadOnly: true},
			{Path: mbrDisk(t), ReadOnly: true},
		},
		Scratch: 2048,
	})
	t.Logf("ready after %v", vm.Boot)
	vm.TestBinary(t, appliancetest.Tests{Package: module + "test/guest/inside", Timeout: 3 * time.Minute})
}
