package ext_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/ext"
	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
)

// stop makes the kernel write the journal and nothing more to the file system,
// as if the machine lost its power then.
func stop(t *testing.T, dir string) {
	t.Helper()
	const flushLog = 1
	shutdown(t, dir, flushLog)
}

func shutdown(t *testing.T, dir string, how int) {
	t.Helper()
	const ioctl = 0x8004587d // FS_IOC_SHUTDOWN
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.IoctlSetPointerInt(fd, ioctl, how); err != nil {
		t.Fatal(err)
	}
}

// compareUnclean reads an image with the reader, and a copy of it with the kernel,
// which replays the journal.
func compareUnclean(t *testing.T, img string) *ext.FS {
	t.Helper()
	f, err := ext.Open(fsreadtest.OpenFile(t, img))
	if err != nil {
		t.Fatal(err)
	}
	dir, unmount := fsreadtest.Mount(t, copyOf(t, img), "")
	defer unmount()
	fsreadtest.Compare(t, f, dir, nil, nil)
	return f
}

func TestAfterALossOfPowerAllIsAsTheKernelWouldReplayIt(t *testing.T) {
	fsreadtest.Root(t)
	for _, tc := range []struct {
		name, options string
		mkfs          []string
	}{
		{"checksums, 64 bits", "", []string{"mkfs.ext4"}},
		{"32 bits, no checksums", "", []string{"mkfs.ext4", "-O", "^64bit,^metadata_csum"}},
		{"64 bits, no checksums", "", []string{"mkfs.ext4", "-O", "64bit,^metadata_csum"}},
		{"checksums, 32 bits, blocks of 1 KiB", "", []string{"mkfs.ext4", "-b", "1024", "-O", "^64bit"}},
		{"ext3", "", []string{"mkfs.ext3"}},
		{"checksums of the first kind", "journal_checksum", []string{"mkfs.ext4", "-O", "^metadata_csum"}},
		{"commits that nobody waits for", "journal_async_commit,data=writeback", []string{"mkfs.ext4", "-O", "^metadata_csum", "-b", "1024"}},
		{"data in the journal", "data=journal", []string{"mkfs.ext4", "-J", "size=32"}},
		{"data in a journal without checksums", "data=journal", []string{"mkfs.ext3", "-J", "size=32"}},
		{"inline data, file of orphans", "", []string{"mkfs.ext4", "-I", "512", "-O", "inline_data,orphan_file"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			img := fsreadtest.Make(t, 160*mib, append(tc.mkfs, "-q", "-F", "-N", "8192")...)
			dir, unmount := fsreadtest.Mount(t, img, tc.options)
			if err := os.Mkdir(filepath.Join(dir, "tree"), 0o755); err != nil {
				t.Fatal(err)
			}
			fsreadtest.Tree(t, filepath.Join(dir, "tree"), "--big", "1", "--most", "2000000")
			fsreadtest.Run(t, "sync", "-f", dir)
			fsreadtest.Change(t, filepath.Join(dir, "tree"), 200, 1)
			likeTheJournal(t, dir)
			release := orphan(t, dir)
			stop(t, dir)
			release()
			unmount()
			f := compareUnclean(t, img)
			if n := f.About().Notices; len(n) != 1 || !strings.Contains(n[0], "blocks come from its journal") {
				t.Errorf("notices: %q", n)
			}
		})
	}
}

// likeTheJournal makes blocks that begin like those of the journal, in its way
// through the journal if that takes data: a file and a directory.
func likeTheJournal(t *testing.T, dir string) {
	t.Helper()
	block := append([]byte{0xc0, 0x3b, 0x39, 0x98, 0, 0, 0, 2}, make([]byte, 1016)...)
	var all []byte
	for range 64 {
		all = append(all, block...)
	}
	if err := os.WriteFile(filepath.Join(dir, "like the journal"), all, 0o644); err != nil {
		t.Fatal(err)
	}
	// Blocks of a directory that goes are revoked, and used for data.
	gone := filepath.Join(dir, "gone")
	if err := os.Mkdir(gone, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 2000 {
		if err := os.Symlink(strings.Repeat("x", 200), filepath.Join(gone, fmt.Sprint(strings.Repeat("n", 100), i))); err != nil {
			t.Fatal(err)
		}
	}
	fsreadtest.Run(t, "sync", "-f", dir)
	if err := os.RemoveAll(gone); err != nil {
		t.Fatal(err)
	}
	fsreadtest.Run(t, "sync", "-f", dir)
	for i := range 20 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("reused", i)), all, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	fsreadtest.Run(t, "sync", "-f", dir)
}

// orphan removes a file that stays open.
func orphan(t *testing.T, dir string) (release func()) {
	t.Helper()
	name := filepath.Join(dir, "orphan")
	f, err := os.Create(name)
	if err == nil {
		_, err = f.Write(make([]byte, 100000))
	}
	if err := errors.Join(err, os.Remove(name)); err != nil {
		t.Fatal(err)
	}
	return func() { _ = f.Close() }
}

// The image of a running machine: taken at one moment, by a reflink, while files
// are made and changed.
func TestImageOfARunningMachineReadsAsTheKernelWouldReplayIt(t *testing.T) {
	fsreadtest.Root(t)
	for _, mkfs := range [][]string{
		{"mkfs.ext4", "-q", "-F", "-N", "8192"},
		{"mkfs.ext4", "-q", "-F", "-N", "8192", "-b", "1024", "-O", "^metadata_csum,^64bit", "-J", "size=4"},
	} {
		t.Run(strings.Join(mkfs, " "), func(t *testing.T) {
			host, _ := fsreadtest.Mount(t, fsreadtest.Make(t, 900*mib, "mkfs.xfs", "-q"), "")
			img := filepath.Join(host, "img")
			if err := errors.Join(os.WriteFile(img, nil, 0o600), os.Truncate(img, 200*mib)); err != nil {
				t.Fatal(err)
			}
			fsreadtest.Run(t, mkfs[0], append(mkfs[1:len(mkfs):len(mkfs)], img)...)
			dir, unmount := fsreadtest.Mount(t, img, "commit=1")
			tree := filepath.Join(dir, "tree")
			if err := os.Mkdir(tree, 0o755); err != nil {
				t.Fatal(err)
			}
			var clones []string
			clone := func() {
				to := fmt.Sprint(img, len(clones))
				fsreadtest.Run(t, "cp", "--reflink=always", img, to)
				clones = append(clones, to)
			}
			during := func(work func()) {
				var wg sync.WaitGroup
				wg.Go(work)
				for range 4 {
					fsreadtest.Run(t, "sync", "-f", dir)
					clone()
				}
				wg.Wait()
				clone()
			}
			during(func() { fsreadtest.Tree(t, tree, "--big", "1", "--most", "2000000") })
			during(func() { fsreadtest.Change(t, tree, 800, 3) })
			unmount()
			seen := 0
			for _, c := range clones {
				f := compareUnclean(t, c)
				if n := f.About().Notices; len(n) > 0 && strings.Contains(n[0], "blocks come from its journal") {
					seen++
				}
			}
			if seen == 0 {
				t.Error("no image needed its journal")
			}
		})
	}
}

// Fast commits hold changes that only the file system's own code can make.
func TestFastCommitsAreRefusedWhileTheyWait(t *testing.T) {
	fsreadtest.Root(t)
	for _, wait := range []bool{true, false} {
		img := fsreadtest.Make(t, 64*mib, "mkfs.ext4", "-q", "-F", "-O", "fast_commit")
		dir, unmount := fsreadtest.Mount(t, img, "")
		fsreadtest.Run(t, "sync", "-f", dir)
		for i := range 4 { // the first ones are not fast
			f, err := os.Create(filepath.Join(dir, fmt.Sprint("f", i)))
			if err != nil {
				t.Fatal(err)
			}
			_, err = f.WriteString("fast")
			if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
				t.Fatal(err)
			}
		}
		if !wait {
			fsreadtest.Run(t, "sync", "-f", dir)
		}
		const noFlush = 2
		shutdown(t, dir, noFlush)
		unmount()
		if !wait {
			compareUnclean(t, img)
			continue
		}
		_, err := ext.Open(fsreadtest.OpenFile(t, img))
		if u, ok := errors.AsType[*fsread.UnsupportedError](err); !ok || !strings.Contains(u.What, "fast commits") {
			t.Errorf("err = %v", err)
		}
	}
}
