//go:build unix

package device

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/holdfast-backup/holdfast/internal/tape"
	"github.com/holdfast-backup/holdfast/internal/tape/drivelock"
)

func TestAllNamesOfADriveShareALock(t *testing.T) {
	dir := t.TempDir()
	node, link := filepath.Join(dir, "sg3"), filepath.Join(dir, "by-id")
	if err := errors.Join(os.WriteFile(node, nil, 0o600), os.Symlink("sg3", link)); err != nil {
		t.Fatal(err)
	}
	o := &Opener{Locks: filepath.Join(dir, "locks")}
	ways := []struct{ name, node string }{{node, node}, {link, link}, {"serial:10WT012345", node}}
	synctest.Test(t, func(t *testing.T) {
		for _, first := range ways {
			held, err := o.lock(t.Context(), first.name, first.node)
			if err != nil {
				t.Fatal(err)
			}
			if busy, err := drivelock.Busy(drivelock.Path(o.Locks, first.name)); !busy || err != nil {
				t.Errorf("%s: who asks for this name, as PBS does, is told %v, %v", first.name, busy, err)
			}
			for _, second := range ways {
				if _, err := o.lock(t.Context(), second.name, second.node); !errors.Is(err, tape.ErrBusy) {
					t.Errorf("%s is held, and %s gets %v", first.name, second.name, err)
				}
			}
			if err := held.unlock(); err != nil {
				t.Error(err)
			}
		}
	})
}
