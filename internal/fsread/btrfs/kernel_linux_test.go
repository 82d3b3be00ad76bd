package btrfs_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread/btrfs"
	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
	"golang.org/x/sys/unix"
)

const mib = 1 << 20

func TestEveryVariantReadsAsTheKernelReadsIt(t *testing.T) {
	fsreadtest.Root(t)
	for _, v := range []struct {
		name  string
		mkfs  []string
		mount string
	}{
		{"plain", nil, "noatime"},
		{"zlib", nil, "compress-force=zlib"},
		{"LZO", nil, "compress-force=lzo"},
		{"zstd", nil, "compress-force=zstd:9"},
		{"SHA-256, small nodes, metadata once", []string{"--csum", "sha256", "-n", "4096", "-m", "single"}, "noatime"},
		{"BLAKE2, mixed groups", []string{"--csum", "blake2", "--mixed"}, "compress=zstd"},
		{"xxHash, data twice, holes written", []string{"--csum", "xxhash", "-d", "dup", "-O", "^no-holes", "-n", "65536"}, "max_inline=0"},
	} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			img := fsreadtest.Make(t, 600*mib, append([]string{"mkfs.btrfs", "-q", "-f", "-L", "a label"}, v.mkfs...)...)
			dir, unmount := fsreadtest.Mount(t, img, v.mount)
			fsreadtest.Tree(t, dir, "--big", "1")
			extra(t, filepath.Join(dir, "extra"))
			subvolumes(t, dir)
			unmount()
			f, err := btrfs.Open(fsreadtest.OpenFile(t, img))
			if err != nil {
				t.Fatal(err)
			}
			if a := f.About(); a.Type != "btrfs" || a.Label != "a label" || a.Notices != nil {
				t.Errorf("about: %+v", a)
			}
			dir, unmount = fsreadtest.Mount(t, img, "ro,subvolid=5")
			defer unmount()
			// What stands for a subvolume that was not copied has no owner and no time.
			fsreadtest.Compare(t, f, dir, nil, []string{"copy/inner"})
		})
	}
}

// extra makes what compresses, what does not, holes, room, and many names.
func extra(t *testing.T, dir string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(dir+"/many", 0o755))
	for i := range 4000 {
		must(os.WriteFile(fmt.Sprintf("%s/many/%s %d", dir, strings.Repeat("name ", i%40), i), bytes.Repeat([]byte{byte(i)}, i), 0o600))
	}
	for i := 1000; i < 2500; i++ {
		must(os.Remove(fmt.Sprintf("%s/many/%s %d", dir, strings.Repeat("name ", i%40), i)))
	}
	r := rand.New(rand.NewPCG(1, 2))
	var mixed []byte
	for i := range 400 {
		if i%3 == 0 {
			for range 3000 {
				mixed = append(mixed, byte(r.Uint32()))
			}
		} else {
			mixed = append(mixed, bytes.Repeat([]byte(fmt.Sprintf("line %d of what compresses; ", i)), 20+r.IntN(400))...)
		}
	}
	must(os.WriteFile(dir+"/mixed", mixed, 0o644))
	f, err := os.Create(dir + "/pieces")
	must(err)
	defer func() { must(f.Close()) }()
	for i := range int64(800) {
		_, err := f.WriteAt(mixed[:1+r.IntN(9000)], i*40_000)
		must(err)
	}
	for range 300 { // over what is compressed, so that extents are used in part
		_, err := f.WriteAt(mixed[:1+r.IntN(2000)], r.Int64N(32_000_000))
		must(err)
	}
	must(unix.Fallocate(int(f.Fd()), 0, 40*mib, 5*mib))
	_, err = f.WriteAt([]byte("in the middle of nothing"), 42*mib)
	must(err)
	must(os.WriteFile(dir+"/short", []byte("inline"), 0o644))
	must(os.Truncate(dir+"/short", 3000))
	must(os.WriteFile(dir+"/attributes", nil, 0o644))
	for i := range 100 {
		must(unix.Setxattr(dir+"/attributes", fmt.Sprintf("user.%d%s", i, strings.Repeat("x", i%100)), []byte(strings.Repeat("v", i*7)), 0))
	}
	for _, n := range []int{1, 60, 300, 2000} {
		must(os.Symlink(strings.Repeat("t", n), fmt.Sprintf("%s/link%d", dir, n)))
	}
}

// subvolumes makes some in each other, and a snapshot of one, which does not hold
// the inner one.
func subvolumes(t *testing.T, dir string) {
	t.Helper()
	for _, s := range []string{"volume", "volume/inner", "extra/deep"} {
		fsreadtest.Run(t, "btrfs", "subvolume", "create", filepath.Join(dir, s))
		if err := os.WriteFile(filepath.Join(dir, s, "file"), []byte(s), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	fsreadtest.Run(t, "btrfs", "subvolume", "snapshot", filepath.Join(dir, "volume"), filepath.Join(dir, "copy"))
	if err := os.WriteFile(filepath.Join(dir, "volume", "file"), []byte("changed"), 0o640); err != nil {
		t.Fatal(err)
	}
	fsreadtest.Run(t, "btrfs", "subvolume", "set-default", filepath.Join(dir, "volume"))
}
