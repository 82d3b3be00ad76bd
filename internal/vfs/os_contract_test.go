package vfs_test

import (
	"testing"

	"github.com/holdfast-backup/holdfast/internal/vfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/vfstest"
)

func TestOSKeepsThePromises(t *testing.T) {
	vfstest.Run(t, func(t *testing.T) vfs.FS {
		o, err := vfs.OpenOS(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := o.Close(); err != nil {
				t.Error(err)
			}
		})
		return o
	})
}
