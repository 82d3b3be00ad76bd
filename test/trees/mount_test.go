//go:build linux

package trees

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// mount mounts an archive until the end of the test.
func (s *store) mount(t *testing.T, snapshot, archive string) string {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		lacking(t, err.Error())
	}
	dir := t.TempDir()
	s.hold(exitOK, "mount", snapshot, archive, dir)
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
			_ = unix.Unmount(dir, unix.MNT_DETACH)
		}
	})
	return dir
}

func TestMountShowsWhatWasBackedUp(t *testing.T) {
	needRoot(t)
	need(t, "python3", "zstd", "tar")
	p := mounted(t, "ext4")
	src := p.filled(t, "source")
	for _, tc := range []struct {
		name  string
		store *store
		modes []string
	}{
		{"plain", newStore(t), modes},
		{"encrypted", newStore(t).encrypted(), []string{"legacy", "metadata"}},
	} {
		for _, mode := range tc.modes {
			t.Run(tc.name+", "+mode, func(t *testing.T) {
				snap, _ := tc.store.backup(exitOK, mode, "root.pxar:"+src, "--change-detection-mode", mode)
				at := tc.store.mount(t, snap, "root.pxar")
				same(t, "the mount", src, at, "--ignore", "flags", "--ignore", "project", "--ignore", "blocks")
				if tc.name == "plain" && mode == "metadata" {
					sameTar(t, src, at)
					readAnywhere(t, src, at)
				}
			})
		}
	}
}

// readAnywhere reads at random places, from several readers, and compares.
func readAnywhere(t *testing.T, want, got string) {
	t.Helper()
	var wg sync.WaitGroup
	for reader := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(7, uint64(reader)))
			for range 200 {
				name := filepath.Join("sizes", []string{"big", "4194305", "1048577", "4097", "zeros"}[rng.IntN(5)])
				off, n := rng.Int64N(7<<20), rng.IntN(300_000)
				a, b := part(filepath.Join(want, name), off, n), part(filepath.Join(got, name), off, n)
				if a != b {
					t.Errorf("%s at %d, %d bytes: %s, want %s", name, off, n, b, a)
					return
				}
			}
		})
	}
	wg.Wait()
}

func part(name string, off int64, n int) string {
	f, err := os.Open(name)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	got, err := io.Copy(h, io.NewSectionReader(f, off, int64(n)))
	return fmt.Sprintf("%d bytes, %x, %v", got, h.Sum(nil), err)
}
