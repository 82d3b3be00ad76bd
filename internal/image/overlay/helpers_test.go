package overlay_test

import (
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/image/overlay"
	"github.com/holdfast-backup/holdfast/internal/vfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

// allocated is the space that a file takes.
func allocated(t testing.TB, path string) int64 {
	t.Helper()
	fsys, err := vfs.OpenOS(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = fsys.Close() }()
	info, err := fsys.Lstat(filepath.Base(path))
	if err != nil {
		t.Fatal(err)
	}
	return info.Blocks
}

// counting is a disk that counts syncs and can hold them up.
type counting struct {
	simulated
	syncs atomic.Int64
	gate  chan struct{} // a sync waits until it is closed; nil: does not
}

func newCounting(t *testing.T) *counting {
	t.Helper()
	c := &counting{simulated: simulated{p: simdisk.New(simdisk.Options{}).Process()}}
	c.fail = func(op string) error {
		if op == "sync" {
			c.syncs.Add(1)
			if c.gate != nil {
				<-c.gate
			}
		}
		return nil
	}
	return c
}

var _ overlay.Disk = (*counting)(nil)
