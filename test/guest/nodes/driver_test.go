//go:build linux

package nodes

import (
	"testing"

	"github.com/holdfast-backup/holdfast/internal/scsi/sg"
	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/lto"
	"github.com/holdfast-backup/holdfast/internal/tape/tapetest"
)

// The driver keeps its promises on the way through the kernel, too.
func TestTheDriverWorksWithANode(t *testing.T) {
	tapetest.Run(t, func(t *testing.T) tape.Drive {
		_, nodes := attach(t, newDrive(t, "DRV0000013"))
		tr, err := sg.Open(nodes[0].Generic)
		if err != nil {
			t.Fatal(err)
		}
		d, err := lto.Open(t.Context(), tr, lto.Config{})
		if err != nil {
			t.Fatal(err)
		}
		return d
	})
}
