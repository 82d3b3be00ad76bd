package guest_test

import (
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/appliance/appliancetest"
)

// TestNodes makes devices of emulated tape drives and changers in a kernel of
// its own, and has the programs of others use them.
func TestNodes(t *testing.T) {
	vm := appliancetest.Start(t, appliancetest.Spec{
		Modules:  []string{"sg", "st", "ch", "uio", "configfs", "target_core_user", "tcm_loop"},
		Tools:    []string{"sh", "dd", "wc", "lsscsi", "sg_inq", "sg_turs", "sg_modes", "sg_logs", "mt-st", "mtx"},
		MemoryMB: 1024, CPUs: 2,
	})
	t.Logf("ready after %v", vm.Boot)
	vm.TestBinary(t, appliancetest.Tests{Package: module + "test/guest/nodes", Timeout: 3 * time.Minute})
}
