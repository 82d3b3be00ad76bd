package vfs_test

import (
	"testing"

	"github.com/holdfast-backup/holdfast/internal/vfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/vfstest"
)

func TestPortableKeepsThePromises(t *testing.T) {
	vfstest.Run(t, func(t *testing.T) vfs.FS {
		p, err := vfs.OpenPortable(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
		return p
	})
}
