package guest_test

import (
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/appliance/appliancetest"
)

// TestMappings runs the tests of mappings on a kernel that has an NBD client.
func TestMappings(t *testing.T) {
	vm := appliancetest.Start(t, appliancetest.Spec{
		Modules: []string{"loop", "nbd", "fuse", "xfs", "btrfs"},
		Tools:   []string{"mkfs.ext4", "fsck.ext4", "mount", "umount", "dd", "sleep", "cat"},
		Scratch: 2048,
	})
	vm.TestBinary(t, appliancetest.Tests{Package: module + "internal/kernel/nbdattach", Timeout: 2 * time.Minute})
	vm.TestBinary(t, appliancetest.Tests{Package: module + "internal/mapping", Run: "NBD", Timeout: 3 * time.Minute})
}
