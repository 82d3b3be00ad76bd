package dirstore_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/exclude"
	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/holdfast-backup/holdfast/internal/provider/dirstore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/tree"
)

// asRoot skips a test that needs to make devices and owners.
func asRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
}

// nasty makes the tree of a container.
func nasty(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, d := range []string{"sbin", "etc", "var/lib/empty", "home/ä b\nc", strings.Repeat("long-name/", 30)} {
		if err := os.MkdirAll(at(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	hole := make([]byte, 3<<20)
	copy(hole[2<<20:], "in the middle")
	for name, b := range map[string][]byte{
		"sbin/init": []byte("#!/bin/sh\n"), "etc/passwd": []byte("root:x:0:0::/:/bin/sh\n"), "etc/empty": nil,
		"var/sparse": hole, "home/ä b\nc/\xff\xfe": []byte("bytes"), "etc/odd": bytes.Repeat([]byte("x"), 513),
	} {
		if err := os.WriteFile(at(name), b, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{
		os.Chmod(at("sbin/init"), 0o4755),
		os.Lchown(at("etc/passwd"), 33, 100000),
		os.Link(at("etc/passwd"), at("var/linked")),
		os.Symlink("../../no/where", at("etc/link")),
		os.Lchown(at("etc/link"), 7, 8),
		unix.Mkfifo(at("var/fifo"), 0o600),
		unix.Mknod(at("var/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))),
		os.Chtimes(at("etc/odd"), time.Time{}, time.Unix(1234567890, 123456789)),
		os.Chmod(at("var/lib/empty"), 0o1777),
		unix.Setxattr(at("etc/odd"), "user.comment", []byte("a=b\x00\nc"), 0),
		unix.Setxattr(at("var"), "user.dir", []byte("d"), 0),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(t, "setcap", "cap_net_raw+ep", at("sbin/init"))
	return dir
}

func walk(dir string, o tree.Options) provider.Walk {
	return func(ctx context.Context, out tree.Output, _ *provider.Base) (tree.Report, error) {
		return tree.Archive(ctx, dir, out, o)
	}
}

// bytesOf is a directory as a file archive, to be compared.
func bytesOf(t *testing.T, dir string, o tree.Options) []byte {
	t.Helper()
	var b bytes.Buffer
	report, err := tree.Archive(t.Context(), dir, tree.Output{Meta: &b}, o)
	if err != nil || report.Problems > 0 {
		t.Fatal(report, err)
	}
	return b.Bytes()
}

// unpack extracts as Proxmox VE does, with GNU tar.
func unpack(t *testing.T, from ...string) string {
	t.Helper()
	dir := t.TempDir()
	args := []string{
		"xpf", "-", "--numeric-owner", "--acls", "--xattrs", "--xattrs-include=user.*", "--xattrs-include=security.capability",
		"--warning=no-file-ignored", "--warning=no-xattr-write", "-C", dir,
	}
	must(t, "sh", append([]string{"-c", `from=$1; shift; if [ -d "$from" ]; then tar cpf - -C "$from" --sparse --numeric-owner --acls --xattrs ` +
		`"--xattrs-include=user.*" --xattrs-include=security.capability . ; else cat "$from"; fi | tar "$@"`, "sh", from[0]}, args...)...)
	return dir
}

func backupTree(t *testing.T, s *dirstore.Store, w provider.Walk) (provider.Archive, provider.Result) {
	t.Helper()
	a := s.Archive(provider.Guest{Kind: provider.LXC, ID: 200}, time.Unix(1700000000, 0))
	res, err := s.BackupContainer(t.Context(), a, provider.Container{Configs: provider.Configs{Guest: []byte("arch: amd64\n")}, Walk: w})
	if err != nil {
		t.Fatal(err)
	}
	return a, res
}

func TestContainersAreForTarWhatTheyWere(t *testing.T) {
	asRoot(t)
	need(t, "tar")
	src := nasty(t)
	must(t, "setfacl", "-m", "u:77:rw,g:88:r,d:u:5:rwx", filepath.Join(src, "etc"))
	must(t, "setfacl", "-m", "u:77:rw", filepath.Join(src, "etc/odd"))
	dir := t.TempDir()
	s := open(t, dir, dirstore.Options{})
	a, res := backupTree(t, s, walk(src, tree.Options{}))
	if res.Skipped != 0 || res.Size > 1<<20 || res.Read < 3<<20 {
		t.Errorf("%+v", res) // the hole takes no space
	}
	e, err := s.Entry(t.Context(), a)
	if err != nil || e.Format != "tar" {
		t.Fatal(e, err)
	}
	source, err := s.Open(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	got, err := source.Tree(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	again := unpack(t, got.Tar)
	if !bytes.Equal(bytesOf(t, again, tree.Options{}), bytesOf(t, src, tree.Options{})) {
		t.Error("what tar makes of it is not what was backed up")
	}
	if err := got.Release(t.Context()); err != nil {
		t.Error(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(again, "var/sparse"), &st); err != nil || st.Blocks*512 > 1<<20 {
		t.Errorf("the sparse file takes %d bytes of %d, %v", st.Blocks*512, st.Size, err)
	}
}

func TestSquashfsIsAsTarWithoutACLs(t *testing.T) {
	asRoot(t)
	need(t, "mksquashfs")
	src := nasty(t)
	must(t, "setfacl", "-m", "u:77:rw", filepath.Join(src, "etc/odd"))
	var said bytes.Buffer
	s := open(t, t.TempDir(), dirstore.Options{Trees: dirstore.Squashfs, Log: slog.New(slog.NewTextHandler(&said, nil))})
	a, _ := backupTree(t, s, walk(src, tree.Options{}))
	if !strings.Contains(said.String(), "ACL") {
		t.Errorf("the lost ACL was not reported: %s", said.String())
	}
	e, err := s.Entry(t.Context(), a)
	if err != nil || e.Format != "squashfs" || e.Size > 1<<20 {
		t.Fatal(e, err)
	}
	source, err := s.Open(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	at := t.TempDir()
	got, err := source.Tree(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	again := unpack(t, got.Dir)
	if err := got.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := got.Release(t.Context()); err != nil {
		t.Error("released twice:", err)
	}
	if list, err := os.ReadDir(at); err != nil || len(list) > 0 {
		t.Error("the directory is not empty after release", list, err)
	}
	// Times have no fractions there, and ACLs no place.
	without := tree.Options{LeaveOut: filemeta.SetOf(filemeta.ACLs)}
	if err := filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		info, ierr := d.Info()
		if err != nil || ierr != nil {
			return errors.Join(err, ierr)
		}
		ts := unix.NsecToTimespec(info.ModTime().Truncate(time.Second).UnixNano())
		return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	}); err != nil {
		t.Fatal(err)
	}
	must(t, "setfacl", "-b", filepath.Join(src, "etc/odd"))
	must(t, "touch", "-r", src, again) // mksquashfs 4.5 gives the root its own time
	if !bytes.Equal(bytesOf(t, again, without), bytesOf(t, src, without)) {
		const list = `cd "$0" && find . -printf '%p %m %U:%G %n %s %T@ %l\n' | sort && getfattr -R -h -d -m - .`
		t.Errorf("what comes out is not what was backed up:\n%s\nwant\n%s", must(t, "sh", "-c", list, again), must(t, "sh", "-c", list, src))
	}
}

func TestPatternsAreThoseOfTheWalk(t *testing.T) {
	src := t.TempDir()
	for _, name := range []string{"a/keep", "a/tmp", "tmp/x", "b.log", "c/d/e.log"} {
		path := filepath.Join(src, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	anchored, err := exclude.Parse("/tmp", exclude.Exclude)
	if err != nil {
		t.Fatal(err)
	}
	anywhere, err := exclude.Parse("*.log", exclude.Exclude)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := open(t, dir, dirstore.Options{})
	a, _ := backupTree(t, s, walk(src, tree.Options{Exclude: []exclude.Pattern{anchored.Anchor(), anywhere}}))
	got := strings.Fields(must(t, "tar", "tf", filepath.Join(dir, a.Name, "archive.tar")))
	slices.Sort(got)
	want := []string{"./", "./a/", "./a/keep", "./a/tmp", "./c/", "./c/d/"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAWalkThatFailsLeavesNothing(t *testing.T) {
	for _, kind := range []dirstore.Trees{dirstore.Tar, dirstore.Squashfs} {
		if kind == dirstore.Squashfs {
			need(t, "mksquashfs")
		}
		dir := t.TempDir()
		s := open(t, dir, dirstore.Options{Trees: kind})
		a := s.Archive(provider.Guest{Kind: provider.LXC, ID: 200}, time.Unix(1700000000, 0))
		gone := errors.New("the container is gone")
		for what, w := range map[string]provider.Walk{
			"at once": func(context.Context, tree.Output, *provider.Base) (tree.Report, error) { return tree.Report{}, gone },
			"in the middle": func(ctx context.Context, out tree.Output, _ *provider.Base) (tree.Report, error) {
				src := t.TempDir()
				if err := os.WriteFile(filepath.Join(src, "f"), make([]byte, 1<<20), 0o600); err != nil {
					return tree.Report{}, err
				}
				return tree.Archive(ctx, src, tree.Output{Meta: &limited{out.Meta, 600 << 10, gone}}, tree.Options{})
			},
			"at the end": func(ctx context.Context, out tree.Output, _ *provider.Base) (tree.Report, error) {
				report, err := tree.Archive(ctx, t.TempDir(), out, tree.Options{})
				return report, errors.Join(err, gone)
			},
		} {
			_, err := s.BackupContainer(t.Context(), a, provider.Container{Walk: w})
			if !errors.Is(err, gone) {
				t.Errorf("%s, %s: %v", kind, what, err)
			}
			if got := names(t, s); got != nil {
				t.Errorf("%s, %s: listed %q", kind, what, got)
			}
			if list, err := os.ReadDir(filepath.Join(dir, "200")); err != nil || len(list) != 1 { // the lock
				t.Errorf("%s, %s: %v, %v", kind, what, list, err)
			}
		}
	}
}

// limited is a writer that fails after so many bytes.
type limited struct {
	w interface{ Write([]byte) (int, error) }
	n int
	e error
}

func (l *limited) Write(p []byte) (int, error) {
	if l.n -= len(p); l.n < 0 {
		return 0, l.e
	}
	return l.w.Write(p)
}

func TestHostileStorageIsNotFollowed(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, incremental)
	a := s.Archive(provider.Guest{Kind: provider.LXC, ID: 200}, time.Unix(1, 0))
	at := filepath.Join(dir, a.Name)
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(t.Context(), a); !corrupt(err) {
		t.Errorf("no archive at all: %v", err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(at, "archive.tar")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(at, "guest.conf")); err != nil {
		t.Fatal(err)
	}
	if src, err := s.Open(t.Context(), a); !corrupt(err) {
		t.Errorf("archive.tar is a link: %v, %v", src, err)
	}
	if c, err := s.Configs(t.Context(), a); err == nil {
		t.Errorf("guest.conf is a link: %q", c.Guest)
	}
	// A machine whose disk is a link, and one whose directory is.
	if err := os.MkdirAll(filepath.Join(dir, "7/qemu-5"), 0o755); err != nil {
		t.Fatal(err)
	}
	must(t, "qemu-img", "create", "-f", "qcow2", filepath.Join(dir, "real.qcow2"), "1M")
	if err := errors.Join(os.Symlink("../../real.qcow2", filepath.Join(dir, "7/qemu-5/d.qcow2")), os.Symlink("qemu-5", filepath.Join(dir, "7/qemu-6"))); err != nil {
		t.Fatal(err)
	}
	if got := names(t, s); !slices.Equal(got, []string{"7/qemu-5", "200/lxc-1"}) {
		t.Errorf("listed %q", got)
	}
	b, err := s.Parse("7/qemu-5")
	if err != nil {
		t.Fatal(err)
	}
	src, err := s.Open(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(src.Volumes()); n != 0 {
		t.Errorf("%d disks, and the only one is a link", n)
	}
	if err := src.Close(); err != nil {
		t.Error(err)
	}
	// One that names a file of the host.
	if err := os.Mkdir(filepath.Join(dir, "7/qemu-8"), 0o755); err != nil {
		t.Fatal(err)
	}
	must(t, "qemu-img", "create", "-f", "qcow2", "-u", "-b", "/etc/passwd", "-F", "raw", filepath.Join(dir, "7/qemu-8/d.qcow2"), "1M")
	c, err := s.Parse("7/qemu-8")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(t.Context(), c); !corrupt(err) {
		t.Errorf("a disk with /etc/passwd behind it: %v", err)
	}
	if err := s.Free(t.Context(), c); err != nil {
		t.Errorf("it can be removed: %v", err)
	}
}

func corrupt(err error) bool {
	_, ok := errors.AsType[*repo.CorruptError](err)
	return ok
}
