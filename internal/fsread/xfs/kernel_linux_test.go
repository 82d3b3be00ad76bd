package xfs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
	"github.com/holdfast-backup/holdfast/internal/fsread/xfs"
	"golang.org/x/sys/unix"
)

const mib = 1 << 20

var variants = []struct {
	name string
	mkfs []string
}{
	{"plain", nil},
	{"blocks of 1 KiB", []string{"-b", "size=1024"}},
	{"directory blocks of 64 KiB", []string{"-n", "size=65536"}},
	{"blocks of 1 KiB, directory blocks of 8 KiB", []string{"-b", "size=1024", "-n", "size=8192"}},
	{"inodes of 2 KiB", []string{"-i", "size=2048"}},
	{"without bigtime and reflink", []string{"-m", "bigtime=0,reflink=0,rmapbt=0,inobtcount=0"}},
	{"reverse map, sparse inodes", []string{"-m", "rmapbt=1,reflink=1", "-i", "sparse=1"}},
	{"many groups", []string{"-d", "agcount=7", "-l", "size=64m"}},
	{"sectors of 4 KiB, stripes", []string{"-s", "size=4096", "-d", "su=64k,sw=4"}},
}

func TestEveryVariantReadsAsTheKernelReadsIt(t *testing.T) {
	fsreadtest.Root(t)
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			mkfs := append([]string{"mkfs.xfs", "-q", "-f", "-L", "a label"}, v.mkfs...)
			img := fsreadtest.Make(t, 600*mib, mkfs...)
			dir, unmount := fsreadtest.Mount(t, img, "")
			fsreadtest.Tree(t, dir, "--big", "1")
			extra(t, filepath.Join(dir, "extra"))
			unmount()
			f, err := xfs.Open(fsreadtest.OpenFile(t, img))
			if err != nil {
				t.Fatal(err)
			}
			if a := f.About(); a.Type != "xfs" || a.Label != "a label" || a.Notices != nil {
				t.Errorf("about: %+v", a)
			}
			dir, unmount = fsreadtest.Mount(t, img, "ro")
			defer unmount()
			fsreadtest.Compare(t, f, dir, nil, nil)
		})
	}
}

// extra makes what needs more than one block: of a directory, of attributes, of
// extents; and a file with room that was never written.
func extra(t *testing.T, dir string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(dir+"/many", 0o755))
	for i := range 6000 {
		must(os.WriteFile(fmt.Sprintf("%s/many/%s %d", dir, strings.Repeat("name ", i%40), i), nil, 0o600))
	}
	for i := 1000; i < 4500; i++ {
		must(os.Remove(fmt.Sprintf("%s/many/%s %d", dir, strings.Repeat("name ", i%40), i)))
	}
	f, err := os.Create(dir + "/pieces")
	must(err)
	defer func() { must(f.Close()) }()
	for i := range int64(3000) {
		_, err := f.WriteAt([]byte{byte(i), 2, 3}, i*40_000)
		must(err)
	}
	must(unix.Fallocate(int(f.Fd()), 0, 130<<20, 5*mib))
	_, err = f.WriteAt([]byte("in the middle of nothing"), 132<<20)
	must(err)
	must(os.WriteFile(dir+"/attributes", nil, 0o644))
	for i := range 300 {
		must(unix.Setxattr(dir+"/attributes", fmt.Sprintf("user.%d%s", i, strings.Repeat("x", i%100)), []byte(strings.Repeat("v", i*7)), 0))
	}
	for i, n := range []int{10_000, 65_536} {
		must(unix.Setxattr(dir+"/attributes", fmt.Sprintf("user.big%d", i), []byte(strings.Repeat("long ", n))[:n], 0))
	}
	for _, n := range []int{1, 60, 300, 1000, 1023} {
		must(os.Symlink(strings.Repeat("t", n), fmt.Sprintf("%s/link%d", dir, n)))
	}
}

// The kernels of today do not read version 4, so mkfs fills it itself.
func TestVersion4ReadsAsItWasFilled(t *testing.T) {
	for _, v := range []struct {
		name string
		mkfs []string
	}{
		{"plain", nil},
		{"kinds in directories, inodes of 256 bytes", []string{"-n", "ftype=1", "-i", "size=256"}},
		{"old attributes, blocks of 512 bytes", []string{"-b", "size=512", "-i", "attr=1,projid32bit=0"}},
		{"blocks of 1 KiB, directory blocks of 8 KiB", []string{"-b", "size=1024", "-n", "size=8192"}},
	} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			src := t.TempDir()
			proto := filepath.Join(t.TempDir(), "proto")
			var list strings.Builder
			list.WriteString("/\n0 0\nd--755 0 0\n")
			fill(t, &list, src, 3)
			list.WriteString("$\n")
			if err := os.WriteFile(proto, []byte(list.String()), 0o644); err != nil {
				t.Fatal(err)
			}
			mkfs := append([]string{"mkfs.xfs", "-q", "-f", "-m", "crc=0,finobt=0", "-l", "size=64m", "-L", "a label", "-p", proto}, v.mkfs...)
			f, err := xfs.Open(fsreadtest.OpenFile(t, fsreadtest.Make(t, 600*mib, mkfs...)))
			if err != nil {
				t.Fatal(err)
			}
			fsreadtest.Compare(t, f, src, []string{"mtime", "uid", "gid"}, []string{"lost+found"})
		})
	}
}

// fill makes directories and files, and says so to mkfs.
func fill(t *testing.T, list *strings.Builder, dir string, depth int) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Chmod(dir, 0o755))
	for i, n := range []int{0, 1, 5000, 300_000} {
		name := fmt.Sprintf("file%d", i)
		must(os.WriteFile(filepath.Join(dir, name), []byte(strings.Repeat(name, n)), 0o644))
		fmt.Fprintf(list, "%s ---644 0 0 %s\n", name, filepath.Join(dir, name))
	}
	for _, n := range []int{5, 200, 900} {
		name, target := fmt.Sprintf("link%d", n), strings.Repeat("t", n)
		must(os.Symlink(target, filepath.Join(dir, name)))
		fmt.Fprintf(list, "%s l--777 0 0 %s\n", name, target)
	}
	must(unix.Mknod(filepath.Join(dir, "device"), unix.S_IFBLK|0o600, int(unix.Mkdev(8, 17))))
	must(os.Chmod(filepath.Join(dir, "device"), 0o600))
	list.WriteString("device b--600 0 0 8 17\n")
	many := 300
	if depth == 0 {
		many = 2000
	}
	for i := range many {
		name := fmt.Sprintf("an_empty_file_%d", i)
		must(os.WriteFile(filepath.Join(dir, name), nil, 0o644))
		fmt.Fprintf(list, "%s ---644 0 0 /dev/null\n", name)
	}
	if depth > 0 {
		for i := range 2 {
			name := fmt.Sprintf("dir%d", i)
			must(os.Mkdir(filepath.Join(dir, name), 0o755))
			fmt.Fprintf(list, "%s d--755 0 0\n", name)
			fill(t, list, filepath.Join(dir, name), depth-1)
			list.WriteString("$\n")
		}
	}
}

// A file system that is shut down leaves what a machine leaves that loses its
// power: a log. The kernel replays it on a copy.
func TestALogIsAppliedAsTheKernelAppliesIt(t *testing.T) {
	fsreadtest.Root(t)
	for i, v := range []struct {
		name  string
		mkfs  []string
		flush bool
	}{
		{"flushed", nil, true},
		{"not flushed", nil, false},
		{"blocks of 1 KiB, flushed", []string{"-b", "size=1024"}, true},
		{"directory blocks of 64 KiB, reverse map", []string{"-n", "size=65536", "-m", "rmapbt=1"}, true},
		{"without bigtime and reflink", []string{"-m", "bigtime=0,reflink=0,rmapbt=0,inobtcount=0"}, false},
	} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			img := fsreadtest.Make(t, 600*mib, append([]string{"mkfs.xfs", "-q", "-f"}, v.mkfs...)...)
			dir, unmount := fsreadtest.Mount(t, img, "")
			fsreadtest.Tree(t, dir, "--big", "1")
			fsreadtest.Run(t, "sync", "-f", dir)
			fsreadtest.Change(t, dir, 300, i)
			extra(t, filepath.Join(dir, "extra"))
			if err := os.RemoveAll(filepath.Join(dir, "extra", "many")); err != nil {
				t.Fatal(err)
			}
			extra(t, filepath.Join(dir, "more"))
			shutDown(t, dir, v.flush)
			unmount()

			f, err := xfs.Open(fsreadtest.OpenFile(t, img))
			if err != nil {
				t.Fatal(err)
			}
			if a := f.About(); len(a.Notices) != 1 || !strings.Contains(a.Notices[0], "transactions of its log are applied") {
				t.Errorf("about: %+v", a)
			}
			again := filepath.Join(t.TempDir(), "copy")
			fsreadtest.Run(t, "cp", "--sparse=always", img, again)
			dir, unmount = fsreadtest.Mount(t, again, "")
			defer unmount()
			fsreadtest.Compare(t, f, dir, nil, nil)
		})
	}
}

// shutDown ends a file system at once: XFS_IOC_GOINGDOWN.
func shutDown(t *testing.T, dir string, flush bool) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	how := 2
	if flush {
		how = 1
	}
	if err := unix.IoctlSetPointerInt(fd, 0x8004587d, how); err != nil {
		t.Fatal(err)
	}
}
