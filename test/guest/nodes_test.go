package guest_test

import (
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/appliance"
	"github.com/holdfast-backup/holdfast/internal/appliance/appliancetest"
)

// TestNodes makes devices of emulated tape drives and changers in a kernel of
// its own, and has the programs of others use them.
func TestNodes(t *testing.T) {
	vm := appliancetest.Start(t, appliancetest.Spec{
		Modules: []string{"sg", "st", "ch", "uio", "configfs", "target_core_user", "tcm_loop"},
		Tools:   []string{"sh", "dd", "wc", "lsscsi", "sg_inq", "sg_turs", "sg_modes", "sg_logs", "mt-st", "mtx", "stenc", "udevadm"},
		Files: []appliance.File{
			{Name: "/usr/lib/holdfast/holdfast-tape-key", From: appliancetest.Build(t, module+"cmd/holdfast-tape-key")},
			{Name: "/usr/local/bin/holdfast", From: appliancetest.Build(t, module+"cmd/holdfast")},
			{Name: "/usr/lib/udev/rules.d/60-holdfast-tape.rules", From: "../../deploy/udev/60-holdfast-tape.rules"},
			{Name: "/lib/udev/scsi_id", From: "/lib/udev/scsi_id"}, // it needs no more libraries than udevadm
			{Name: "/etc/passwd", Content: []byte("root:x:0:0:::\nbackup:x:1000:1000:::\n")},
		},
		MemoryMB: 1024, CPUs: 2,
	})
	t.Logf("ready after %v", vm.Boot)
	tests := appliancetest.Tests{Package: module + "test/guest/nodes", Timeout: 6 * time.Minute}
	if testing.Short() {
		tests.Run = "TestADriveIsFound|TestNoSignal"
	}
	vm.TestBinary(t, tests)
}
