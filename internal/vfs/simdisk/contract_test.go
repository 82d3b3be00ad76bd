package simdisk_test

import (
	"testing"

	"github.com/holdfast-backup/holdfast/internal/vfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
	"github.com/holdfast-backup/holdfast/internal/vfs/vfstest"
)

func TestDiskKeepsThePromises(t *testing.T) {
	vfstest.Run(t, func(*testing.T) vfs.FS { return simdisk.New(simdisk.Options{}) })
}

func TestProcessKeepsThePromises(t *testing.T) {
	vfstest.Run(t, func(*testing.T) vfs.FS { return simdisk.New(simdisk.Options{Capacity: 1 << 30}).Process() })
}
