//go:build linux

package nodes

import (
	"os"
	"slices"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/scsi"
)

// The rule that comes with the program gives drives their names.
func TestDrivesHaveLinksThatStay(t *testing.T) {
	_, nodes := attach(t, newDrive(t, "DRV0000015"))
	out := run(t, "udevadm", "test", "--action=add", "/sys/class/scsi_generic/"+nodes[0].Generic[len("/dev/"):])
	all, err := scsi.Discover(os.DirFS("/sys"), os.DirFS("/dev"))
	if err != nil || len(all) != 1 {
		t.Fatalf("found %+v: %v", all, err)
	}
	if !slices.Contains(all[0].Links, "/dev/tape/by-id/scsi-DRV0000015-sg") {
		t.Errorf("its links are %q; udevadm said: %s", all[0].Links, out)
	}
	t.Log(all[0].Links)
}
