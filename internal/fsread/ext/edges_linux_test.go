package ext_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/ext"
	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
)

// Where one form ends and the next begins: links and files that just fit into
// the inode, space that is reserved over what was there before.
func TestEdgesReadAsTheKernelReadsThem(t *testing.T) {
	fsreadtest.Root(t)
	for _, mkfs := range [][]string{
		{"mkfs.ext4"},
		{"mkfs.ext4", "-b", "1024", "-O", "inline_data,ea_inode"},
		{"mkfs.ext4", "-I", "1024", "-O", "inline_data"},
		{"mkfs.ext3", "-I", "128"},
		{"mkfs.ext2", "-b", "2048"},
	} {
		t.Run(strings.Join(mkfs, " "), func(t *testing.T) {
			img := fsreadtest.Make(t, 64*mib, append(mkfs, "-q", "-F")...)
			dir, unmount := fsreadtest.Mount(t, img, "")
			edges(t, dir)
			reserved(t, dir)
			unmount()
			f, err := ext.Open(fsreadtest.OpenFile(t, img))
			if err != nil {
				t.Fatal(err)
			}
			dir, _ = fsreadtest.Mount(t, img, "ro")
			fsreadtest.Compare(t, f, dir, nil, nil)
			compareStat(t, f, dir)
		})
	}
}

func edges(t *testing.T, dir string) {
	t.Helper()
	for _, n := range []int{1, 55, 56, 57, 58, 59, 60, 61, 62, 100, 150, 200, 700, 900, 1000, 1020} {
		at := filepath.Join(dir, fmt.Sprint(n))
		err := errors.Join(os.Symlink(strings.Repeat("l", n), at+"l"), os.WriteFile(at+"f", bytes.Repeat([]byte{'f'}, n), 0o644),
			os.Mkdir(at+"d", 0o755), os.WriteFile(filepath.Join(at+"d", strings.Repeat("n", min(n, 255))), nil, 0o644))
		for i := range n % 13 {
			err = errors.Join(err, os.WriteFile(filepath.Join(at+"d", fmt.Sprint("name", i)), nil, 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Setxattr(at+"f", "user.x", bytes.Repeat([]byte{'v'}, n), 0); err != nil && !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
	}
}

// reserved makes a file of space that held something else, and writes a little
// of it.
func reserved(t *testing.T, dir string) {
	t.Helper()
	noise := make([]byte, 20*mib)
	rand.New(rand.NewSource(1)).Read(noise)
	old := filepath.Join(dir, "old")
	if err := os.WriteFile(old, noise, 0o644); err != nil {
		t.Fatal(err)
	}
	fsreadtest.Run(t, "sync", "-f", dir)
	if err := os.Remove(old); err != nil {
		t.Fatal(err)
	}
	fsreadtest.Run(t, "sync", "-f", dir)
	f, err := os.Create(filepath.Join(dir, "reserved"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = unix.Fallocate(int(f.Fd()), 0, 0, 20*mib)
	if errors.Is(err, unix.EOPNOTSUPP) { // without extents
		err = f.Truncate(20 * mib)
	}
	for _, off := range []int64{0, 5*mib + 100, 20*mib - 3} {
		_, werr := f.WriteAt([]byte("new"), off)
		err = errors.Join(err, werr)
	}
	if err = errors.Join(err, f.Truncate(19*mib+5), f.Truncate(20*mib)); err != nil {
		t.Fatal(err)
	}
}

// compareStat compares what listings do not have: all times, and links.
func compareStat(t *testing.T, f *ext.FS, dir string) {
	t.Helper()
	n := 0
	if err := f.ReadDir(f.Root(), func(e fsread.Entry) error {
		st, err := f.Stat(e.ID)
		if err != nil {
			return err
		}
		var x unix.Statx_t
		if err := unix.Statx(unix.AT_FDCWD, filepath.Join(dir, e.Name), unix.AT_SYMLINK_NOFOLLOW, unix.STATX_ALL, &x); err != nil {
			return err
		}
		n++
		when := func(s unix.StatxTimestamp) time.Time { return time.Unix(s.Sec, int64(s.Nsec)) }
		if !st.Accessed.Equal(when(x.Atime)) || !st.Changed.Equal(when(x.Ctime)) || !st.Modified.Equal(when(x.Mtime)) ||
			st.Links != x.Nlink || st.Size != int64(x.Size) || st.ID.Number != x.Ino || e.Kind != st.Kind ||
			x.Mask&unix.STATX_BTIME != 0 && !st.Created.Equal(when(x.Btime)) || x.Mask&unix.STATX_BTIME == 0 && !st.Created.IsZero() {
			t.Errorf("%s: %+v, the kernel says %+v", e.Name, st, x)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if n < 40 {
		t.Errorf("%d entries", n)
	}
}
