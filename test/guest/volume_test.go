package guest_test

import (
	"testing"

	"github.com/holdfast-backup/holdfast/internal/appliance"
	"github.com/holdfast-backup/holdfast/internal/appliance/appliancetest"
)

// Volumes need a kernel with device-mapper; dmsetup is the independent view.
func TestVolumes(t *testing.T) {
	vm := appliancetest.Start(t, appliancetest.Spec{
		Modules: []string{"loop", "dm-mod", "dm-snapshot"},
		Tools:   []string{"dmsetup", "sh", "cat", "cmp", "dd"},
		Files:   []appliance.File{{Name: "/usr/local/bin/holdfast", From: appliancetest.Build(t, module+"cmd/holdfast")}},
		Scratch: 512, MemoryMB: 768,
	})
	t.Logf("ready after %v", vm.Boot)
	vm.TestBinary(t, appliancetest.Tests{Package: module + "internal/kernel/dm"})
	vm.TestBinary(t, appliancetest.Tests{Package: module + "internal/volume", Run: "Live|Real|Claimed|Stale|Words"})
}
