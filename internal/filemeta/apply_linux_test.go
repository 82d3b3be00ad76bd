package filemeta

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"golang.org/x/sys/unix"
)

// open opens a file or directory, and its file system.
func open(t testing.TB, path string) (int, *FS) {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	f, err := Of(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fd, f
}

func read(t testing.TB, f *FS, fd int) (m pxar.Metadata) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	if err := f.Read(fd, &st, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// must makes every report an error.
func must(t testing.TB) func(What, error) {
	return func(w What, err error) { t.Errorf("%s: %v", w, err) }
}

// everything is metadata with all that ext4, xfs, btrfs and tmpfs have in common.
func everything(mode uint32, flags uint64) pxar.Metadata {
	m := pxar.Metadata{
		Mode: mode, Flags: flags, UID: 1234, GID: 5678,
		Mtime:  pxar.Time{Sec: 1_700_000_000, Nsec: 123_456_789},
		Xattrs: []pxar.Xattr{{Name: "user.empty"}, {Name: "user.text", Value: []byte("a\x00b")}},
		ACL:    &pxar.ACL{Users: []pxar.ACLEntry{{ID: 7, Perm: 6}}, GroupObj: new(pxar.Perm(4))},
	}
	if mode&unix.S_IFMT == unix.S_IFDIR {
		m.ACL.Default = &pxar.ACLDefault{UserObj: 7, GroupObj: 5, Other: 0, Mask: 7}
		m.ACL.DefaultGroups = []pxar.ACLEntry{{ID: 8, Perm: 7}}
	} else {
		m.FCaps = []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	}
	return m
}

// sortXattrs: the order is the kernel's.
var sortXattrs = cmp.Transformer("map", func(x []pxar.Xattr) map[string]string {
	m := make(map[string]string, len(x))
	for _, a := range x {
		m[a.Name] = string(a.Value)
	}
	return m
})

func rootOnly(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("owners and capabilities are root's to give")
	}
}

func TestWhatIsAppliedIsReadAgainAndExactTakesTheRestAway(t *testing.T) {
	rootOnly(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sub := filepath.Join(dir, "d")
	if err := os.Mkdir(sub, 0o700); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]uint32{file: unix.S_IFREG | 0o4671, sub: unix.S_IFDIR | 0o2771} {
		fd, f := open(t, path)
		want := everything(mode, 0)
		if f.Name() == "ext4" {
			want.Flags = pxar.FlagNoDump | pxar.FlagImmutable
			defer f.Apply(fd, &pxar.Metadata{Mode: mode}, How{Exact: true, Report: must(t)})
		}
		f.Apply(fd, &want, How{Report: must(t)})
		if diff := cmp.Diff(want, read(t, f, fd), sortXattrs); diff != "" {
			t.Errorf("%s on %s (-want +got):\n%s", path, f.Name(), diff)
		}
		bare := pxar.Metadata{Mode: mode &^ 0o6007, Mtime: pxar.Time{Sec: -1, Nsec: 500_000_000}}
		f.Apply(fd, &bare, How{Exact: true, Report: must(t)})
		if diff := cmp.Diff(bare, read(t, f, fd)); diff != "" {
			t.Errorf("%s, exact (-want +got):\n%s", path, diff)
		}
	}
}

func TestWhatIsSkippedStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fd, f := open(t, path)
	was := read(t, f, fd)
	m := everything(unix.S_IFREG|0o777, pxar.FlagNoDump)
	all := SetOf(Owner, Xattrs, FCaps, ACLs, Project, Mode, Mtime, Flags)
	m.ProjectID = 5
	f.Apply(fd, &m, How{Skip: all, Exact: true, Report: must(t)})
	if diff := cmp.Diff(was, read(t, f, fd)); diff != "" {
		t.Error(diff)
	}
}

func TestSetIDBitsNeedTheirOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fd, f := open(t, path)
	m := pxar.Metadata{Mode: unix.S_IFREG | 0o6755, UID: 77, GID: 77}
	f.Apply(fd, &m, How{Skip: SetOf(Owner), Report: must(t)})
	if got := read(t, f, fd).Mode; got != unix.S_IFREG|0o755 {
		t.Errorf("mode %o", got)
	}
	m.UID = ^uint32(0) - 1
	var told []error
	s := setter{f: f, m: &m, fd: fd, How: How{Report: func(_ What, err error) { told = append(told, err) }}}
	s.mode(false, func(mode uint32) error { return unix.Fchmod(fd, mode) })
	if got := read(t, f, fd).Mode; got != unix.S_IFREG|0o755 || len(told) != 1 || !errors.Is(told[0], errOwner) {
		t.Errorf("mode %o, told %v", got, told)
	}
}

func TestNumbersThatAreNoOwnerAreSaid(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fd, f := open(t, path)
	was := read(t, f, fd)
	for _, ids := range []Owners{{UID: noID, GID: was.GID}, {UID: was.UID, GID: noID}} {
		var told []What
		m := pxar.Metadata{Mode: unix.S_IFREG | 0o4755, UID: ids.UID, GID: ids.GID}
		f.Apply(fd, &m, How{Report: func(w What, _ error) { told = append(told, w) }})
		if got := read(t, f, fd); got.UID != was.UID || got.GID != was.GID || got.Mode != unix.S_IFREG|0o755 || len(told) == 0 || told[0] != Owner {
			t.Errorf("%+v: %d:%d, mode %o, told %v", ids, got.UID, got.GID, got.Mode, told)
		}
	}
}

func TestLinksAndDevicesAreChangedThemselves(t *testing.T) {
	rootOnly(t)
	dir := t.TempDir()
	fd, f := open(t, dir)
	if err := unix.Mknodat(fd, "null", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
		t.Fatal(err)
	}
	if err := unix.Symlinkat("null", fd, "link"); err != nil {
		t.Fatal(err)
	}
	device := pxar.Metadata{Mode: unix.S_IFCHR | 0o640, UID: 1, GID: 2, Mtime: pxar.Time{Sec: 1, Nsec: 2}}
	link := pxar.Metadata{Mode: unix.S_IFLNK | 0o777, UID: 3, GID: 4, Mtime: pxar.Time{Sec: 5, Nsec: 6}}
	f.ApplyAt(fd, "null", &device, How{Report: must(t)})
	f.ApplyAt(fd, "link", &link, How{Report: must(t)})
	for name, want := range map[string]pxar.Metadata{"null": device, "link": link} {
		var st unix.Stat_t
		if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			t.Fatal(err)
		}
		var got pxar.Metadata
		if err := f.Read(-1, &st, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if err := chmodAt(fd, "link", 0o777); !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ELOOP) {
		t.Errorf("mode of a link: %v", err)
	}
}

func TestFileSystemsOfTheKernelAreVirtual(t *testing.T) {
	for path, want := range map[string]bool{"/proc": true, "/sys": true, t.TempDir(): false} {
		if _, f := open(t, path); f.Virtual() != want {
			t.Errorf("%s: %s is virtual: %v", path, f.Name(), !want)
		}
	}
	if f := newFS(0x1234); f.Name() != "0x1234" || f.Virtual() || !f.can(hasXattrs) {
		t.Errorf("%s: an unknown one is like others", f.Name())
	}
}

func TestRefusalNarrowsButNotWhereFileSystemsMix(t *testing.T) {
	f, mixed := newFS(unix.BTRFS_SUPER_MAGIC), newFS(unix.OVERLAYFS_SUPER_MAGIC)
	for _, f := range []*FS{f, mixed} {
		if !f.refused(hasFlags, unix.ENOTTY) || f.refused(hasXattrs, unix.EIO) || !f.refused(hasXattrs, unix.EBADF) {
			t.Error("which errors are a refusal is wrong")
		}
	}
	if f.can(hasFlags) || !f.can(hasXattrs) || !mixed.can(hasFlags) {
		t.Errorf("%b, %b", f.has.Load(), mixed.has.Load())
	}
}

func TestManyAndLargeXattrsAreRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fd, f := open(t, path)
	value := make([]byte, 2000)
	names := 0
	for i := range 40 { // their names alone exceed the first buffer
		name := "user." + string(rune('a'+i%26)) + string(rune('0'+i/26)) + "-0123456789012345678901234567890123456789"
		switch err := unix.Fsetxattr(fd, name, value[:i], 0); {
		case errors.Is(err, unix.EOPNOTSUPP):
			t.Skipf("%s has no extended attributes here", f.Name())
		case err == nil:
			names++
		}
	}
	if err := unix.Fsetxattr(fd, "user.large", value, 0); err == nil {
		names++
	}
	if m := read(t, f, fd); len(m.Xattrs) != names {
		t.Errorf("%d of %d read", len(m.Xattrs), names)
	}
}

func BenchmarkRead(b *testing.B) {
	path := filepath.Join(b.TempDir(), "f")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		b.Fatal(err)
	}
	fd, f := open(b, path)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		b.Fatal(err)
	}
	var m pxar.Metadata
	b.ReportAllocs()
	for b.Loop() {
		if err := f.Read(fd, &st, &m); err != nil {
			b.Fatal(err)
		}
	}
}
