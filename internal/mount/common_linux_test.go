package mount

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// archive is the bytes of one, of version 2 with a payload stream.
type archive struct{ meta, payload []byte }

func (b archive) open(t testing.TB) *pxar.Archive {
	t.Helper()
	a, err := b.try()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (b archive) try() (*pxar.Archive, error) {
	var payload io.ReaderAt
	if b.payload != nil {
		payload = bytes.NewReader(b.payload)
	}
	return pxar.OpenArchive(bytes.NewReader(b.meta), int64(len(b.meta)), payload, int64(len(b.payload)))
}

// needFUSE skips where a test cannot mount.
func needFUSE(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("there is no /dev/fuse")
	}
}

// mounted mounts an archive for the time of a test.
func mounted(t testing.TB, a *pxar.Archive, o Options) *Mount {
	t.Helper()
	needFUSE(t)
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	m, err := New(t.TempDir(), a, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := m.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	m.noPoll(t)
	return m
}

// noPoll lets the kernel know that files cannot be polled. Package os asks for
// every file that it opens, in a way that holds up the answer if it has to come
// from the same process. The name is one that go-fuse has for this.
func (m *Mount) noPoll(t testing.TB) {
	t.Helper()
	fd, err := unix.Open(filepath.Join(m.Dir(), ".go-fuse-epoll-hack"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
}

// expected is what an archive read in a row says of a path.
type expected struct {
	pxar.Entry
	path    string
	content []byte
	names   uint32 // of a file
	first   string // path of the file that a hard link stands for
}

// read reads an archive in a row: by other code than that of the mount. Names
// that cannot be shown are left out.
func (b archive) read(t testing.TB) (all []*expected) {
	t.Helper()
	var payload io.Reader
	if b.payload != nil {
		payload = bytes.NewReader(b.payload)
	}
	r, err := pxar.NewReader(bytes.NewReader(b.meta), payload)
	if err != nil {
		t.Fatal(err)
	}
	files := map[int64]*expected{}
	var linked []*expected
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == pxar.End {
			continue
		}
		x := &expected{Entry: *e, path: strings.Join(r.Path(), "/")}
		if x.content, err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
		switch e.Kind {
		case pxar.File:
			files[e.Offset] = x
			x.names = 1
			x.first = x.path
		case pxar.Hardlink:
			first := files[e.Link]
			first.names++
			x.first = first.path
			linked = append(linked, x)
		}
		if slices.ContainsFunc(r.Path(), func(name string) bool { return len(name) > MaxName }) || len(x.path) > 3500 {
			continue
		}
		all = append(all, x)
	}
	for _, x := range linked {
		first := files[x.Link]
		path, name := x.path, x.Name
		*x = *first
		x.path, x.Name = path, name
	}
	return all
}

// sameTree compares what is below dir with an archive.
func sameTree(t *testing.T, dir string, want []*expected) {
	t.Helper()
	inodes := map[string]uint64{}
	names := map[string][]string{}
	for _, x := range want {
		path := filepath.Join(dir, x.path)
		if x.path != "" {
			names[filepath.Dir(path)] = append(names[filepath.Dir(path)], x.Name)
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			t.Fatalf("%q: %v", x.path, err)
		}
		sameStat(t, x, &st)
		if x.first != "" {
			if ino, ok := inodes[x.first]; ok && ino != st.Ino {
				t.Errorf("%q: inode %d, the first link to it has %d", x.path, st.Ino, ino)
			}
			inodes[x.first] = st.Ino
		}
		sameXattrs(t, x, path)
		switch x.Kind {
		case pxar.Symlink:
			if got, err := os.Readlink(path); err != nil || got != x.Target {
				t.Errorf("%q: leads to %q, %v; want %q", x.path, got, err, x.Target)
			}
		case pxar.File:
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, x.content) {
				t.Errorf("%q: %d bytes, %v; want %d", x.path, len(got), err, len(x.content))
			}
		}
	}
	for _, x := range want {
		if x.Kind != pxar.Directory {
			continue
		}
		path := filepath.Join(dir, x.path)
		var got []string
		for _, e := range getdents(t, path, 4096) {
			if e.name != "." && e.name != ".." {
				got = append(got, e.name)
			}
		}
		if !slices.Equal(got, names[path]) {
			t.Errorf("%q lists %q, want %q", x.path, got, names[path])
		}
	}
}

func sameStat(t *testing.T, x *expected, st *unix.Stat_t) {
	t.Helper()
	var got, want struct {
		mode, uid, gid, nlink uint64
		size, blocks          int64
		rdev                  uint64
		mtime, atime, ctime   unix.Timespec
		inode                 uint64
	}
	got.mode, got.uid, got.gid, got.nlink = uint64(st.Mode), uint64(st.Uid), uint64(st.Gid), uint64(st.Nlink)
	got.size, got.blocks, got.rdev = st.Size, st.Blocks, st.Rdev
	got.mtime, got.atime, got.ctime = st.Mtim, st.Atim, st.Ctim
	want.mode, want.uid, want.gid, want.nlink = uint64(x.Mode), uint64(x.UID), uint64(x.GID), 1
	if x.UID == math.MaxUint32 { // no user's
		want.uid = nobody
	}
	want.mtime = unix.Timespec{Sec: x.Mtime.Sec, Nsec: int64(x.Mtime.Nsec)}
	want.atime, want.ctime = want.mtime, want.mtime
	switch x.Kind {
	case pxar.File:
		want.size, want.nlink = int64(len(x.content)), uint64(x.names)
		want.blocks = (want.size + 511) / 512
	case pxar.Symlink:
		want.size = int64(len(x.Target))
	case pxar.CharDevice, pxar.BlockDevice:
		want.rdev = unix.Mkdev(uint32(x.Device.Major)&0xfff, uint32(x.Device.Minor)&0xfffff)
	}
	if got != want {
		t.Errorf("%q is\n%+v, want\n%+v", x.path, got, want)
	}
}

func sameXattrs(t *testing.T, x *expected, path string) {
	t.Helper()
	want := map[string]string{}
	if x.Kind == pxar.File || x.Kind == pxar.Directory { // of others the kernel tells none
		for _, a := range x.Xattrs {
			if _, twice := want[a.Name]; !twice {
				want[a.Name] = string(a.Value)
			}
		}
		for name, value := range map[string][]byte{
			"security.capability":      x.FCaps,
			"system.posix_acl_access":  filemeta.AccessACL(&x.Metadata),
			"system.posix_acl_default": filemeta.DefaultACL(&x.Metadata),
		} {
			if value != nil {
				want[name] = string(value)
			}
		}
	}
	got := listXattrs(t, path)
	if x.Kind == pxar.File || x.Kind == pxar.Directory {
		for name := range got {
			if _, ok := want[name]; !ok {
				t.Errorf("%q has %s, the archive has not", x.path, name)
			}
		}
	}
	for name, value := range want {
		if v, ok := got[name]; !ok || v != value {
			t.Errorf("%q: %s is %q (%v), want %q", x.path, name, v, ok, value)
		}
	}
}

func listXattrs(t *testing.T, path string) map[string]string {
	t.Helper()
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	if err != nil {
		t.Fatalf("listxattr %q: %v", path, err)
	}
	got := map[string]string{}
	value := make([]byte, 64<<10)
	for name := range strings.SplitSeq(string(buf[:n]), "\x00") {
		if name == "" {
			continue
		}
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			got[name] = err.Error()
			continue
		}
		got[name] = string(value[:n])
	}
	return got
}

// dirent is an entry of a directory as the kernel lists it.
type dirent struct {
	ino  uint64
	off  int64
	typ  byte
	name string
}

// getdents lists a directory with a buffer of so many bytes.
func getdents(t testing.TB, path string, size int) (all []dirent) {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("%q: %v", path, err)
	}
	defer unix.Close(fd)
	all, err = direntsOf(fd, size)
	if err != nil {
		t.Fatalf("%q: %v", path, err)
	}
	return all
}

// direntsOf goes on where the descriptor is.
func direntsOf(fd, size int) (all []dirent, err error) {
	buf := make([]byte, size)
	for {
		n, err := unix.Getdents(fd, buf)
		if n <= 0 || err != nil {
			return all, err
		}
		all = append(all, parseDirents(buf[:n])...)
	}
}

func parseDirents(b []byte) (all []dirent) {
	ne := func(b []byte, n int) (v uint64) {
		for i := n - 1; i >= 0; i-- {
			v = v<<8 | uint64(b[i])
		}
		return v
	}
	for len(b) > 0 {
		size := ne(b[16:], 2)
		name, _, _ := bytes.Cut(b[19:size], []byte{0})
		all = append(all, dirent{ne(b, 8), int64(ne(b[8:], 8)), b[18], string(name)})
		b = b[size:]
	}
	return all
}
