package mount

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/kernel/fusemount"
)

// as runs a command as another user.
func as(t testing.TB, uid, gid uint32, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// openToAll makes a directory and those above it, as far as they are the test's,
// accessible to all.
func openToAll(t testing.TB, dir string) {
	t.Helper()
	for ; dir != filepath.Clean(os.TempDir()) && len(dir) > 1; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil && !errors.Is(err, unix.EROFS) {
			t.Fatal(err)
		}
	}
}

func TestModesAndACLsDecideWhoReads(t *testing.T) {
	owned := func(uid, gid, mode uint32, acl *pxar.ACL) pxar.Metadata {
		return pxar.Metadata{Mode: pxar.ModeFile | mode, UID: uid, GID: gid, ACL: acl}
	}
	b := build(t, 2, func(w *writer) {
		for _, f := range []struct {
			name string
			m    pxar.Metadata
		}{
			{"acl", owned(0, 2000, 0o640, &pxar.ACL{Users: []pxar.ACLEntry{{ID: 1001, Perm: 4}}, GroupObj: new(pxar.Perm(0))})},
			{"group", owned(0, 2000, 0o640, nil)},
			{"owner", owned(1001, 0, 0o400, nil)},
			{"root", owned(0, 0, 0o600, nil)},
			{"suid", owned(0, 0, 0o4755, nil)},
		} {
			w.must(w.AddBytes(&pxar.Entry{Name: f.name, Kind: pxar.File, Metadata: f.m}, []byte("read")))
		}
	})
	for _, links := range []*Links{counted(t, b), nil} {
		m := mounted(t, b.open(t), Options{AllowOther: true, Links: links})
		openToAll(t, filepath.Dir(m.Dir()))
		for _, tc := range []struct {
			uid, gid uint32
			may      string
		}{
			{1001, 1001, "acl owner suid"},
			{1002, 2000, "group suid"}, // the mask of the ACL is no right of the group
			{1002, 1002, "suid"},
		} {
			var may []string
			for _, name := range []string{"acl", "group", "owner", "root", "suid"} {
				out, err := as(t, tc.uid, tc.gid, "cat", filepath.Join(m.Dir(), name))
				if err == nil && out == "read" {
					may = append(may, name)
				} else if !strings.Contains(out, "Permission denied") {
					t.Errorf("user %d, %s: %v: %s", tc.uid, name, err, out)
				}
			}
			if strings.Join(may, " ") != tc.may {
				t.Errorf("user %d of group %d may read %q, want %q", tc.uid, tc.gid, may, tc.may)
			}
		}
		if err := os.WriteFile(m.Dir()+"/root", nil, 0); !errors.Is(err, unix.EROFS) {
			t.Errorf("written: %v", err)
		}
	}
}

func TestModesDecideWhereThereAreNoACLs(t *testing.T) {
	b := build(t, 2, func(w *writer) {
		for name, mode := range map[string]uint32{"all": 0o644, "root": 0o600} {
			w.must(w.AddBytes(&pxar.Entry{Name: name, Kind: pxar.File, Metadata: pxar.Metadata{Mode: pxar.ModeFile | mode}}, []byte("read")))
		}
	})
	for _, o := range []Options{{AllowOther: true}, {AllowOther: true, Links: counted(t, b)}, {}} {
		m := mounted(t, b.open(t), o)
		openToAll(t, filepath.Dir(m.Dir()))
		for name, may := range map[string]bool{"all": o.AllowOther, "root": false} {
			out, err := as(t, 1001, 1001, "cat", filepath.Join(m.Dir(), name))
			if may && (err != nil || out != "read") || !may && !strings.Contains(out, "Permission denied") {
				t.Errorf("for others %v: a user gets %s: %v, %q", o.AllowOther, name, err, out)
			}
		}
	}
}

func TestTrustedAttributesAreForRoot(t *testing.T) {
	b := build(t, 1, func(w *writer) {
		e := &pxar.Entry{Name: "x", Kind: pxar.File, Metadata: w.meta(pxar.ModeFile | 0o644)}
		e.Xattrs = []pxar.Xattr{{Name: "trusted.a", Value: []byte("1")}, {Name: "user.b", Value: []byte("2")}}
		w.must(w.AddBytes(e, nil))
	})
	m := mounted(t, b.open(t), Options{AllowOther: true})
	openToAll(t, filepath.Dir(m.Dir()))
	if got := listXattrs(t, m.Dir()+"/x"); len(got) != 2 || got["trusted.a"] != "1" || got["user.b"] != "2" {
		t.Errorf("root sees %q", got)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(filepath.Dir(m.Dir()), "self")
	if out, err := exec.CommandContext(t.Context(), "cp", self, copied).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Setenv(childEnv, "xattrs "+m.Dir()+"/x")
	if out, err := as(t, 1001, 1001, copied); err != nil || out != "user.b\n" {
		t.Errorf("a user sees %q, %v", out, err)
	}
}

func TestIDsAreThoseOfTheHost(t *testing.T) {
	up := func(id uint32) (uint32, bool) { return id + 100_000, id < 1000 }
	b := build(t, 2, func(w *writer) {
		for i, uid := range []uint32{0, 999, 1000} {
			e := &pxar.Entry{Name: fmt.Sprint(i), Kind: pxar.File, Metadata: pxar.Metadata{Mode: pxar.ModeFile | 0o640, UID: uid, GID: 5}}
			e.ACL = &pxar.ACL{Users: []pxar.ACLEntry{{ID: 7, Perm: 4}}, GroupObj: new(pxar.Perm(4))}
			w.must(w.AddBytes(e, nil))
		}
	})
	m := mounted(t, b.open(t), Options{Users: up, Groups: up})
	for i, want := range []uint32{100_000, 100_999, nobody} {
		path := fmt.Sprintf("%s/%d", m.Dir(), i)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil || st.Uid != want || st.Gid != 100_005 {
			t.Errorf("%d: %d:%d, %v; want user %d", i, st.Uid, st.Gid, err, want)
		}
		acl := listXattrs(t, path)["system.posix_acl_access"]
		if want := "\xa7\x86\x01\x00"; !strings.Contains(acl, want) { // 100007
			t.Errorf("%d: ACL %q", i, acl)
		}
	}
}

func TestAttributesAndProjectAreThere(t *testing.T) {
	b := build(t, 1, func(w *writer) {
		e := &pxar.Entry{Name: "x", Kind: pxar.File, Metadata: w.meta(pxar.ModeFile | 0o644)}
		e.Flags, e.ProjectID = pxar.FlagImmutable|pxar.FlagNoDump|pxar.FlagHidden, 77
		w.must(w.AddBytes(e, nil))
		w.file("y", "")
	})
	m := mounted(t, b.open(t), Options{})
	fd, err := unix.Open(m.Dir()+"/x", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS); err != nil || flags != 0x10|0x40 {
		t.Errorf("%#x, %v", flags, err)
	}
	if flags, err := unix.IoctlGetUint32(fd, getFAT); err != nil || flags != 2 {
		t.Errorf("FAT: %#x, %v", flags, err)
	}
	var x [7]uint32
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), getFsxattr, uintptr(unsafe.Pointer(&x))); errno != 0 || x[0] != 0x8|0x80 || x[3] != 77 {
		t.Errorf("%v, %v", x, errno)
	}
	if out, err := exec.CommandContext(t.Context(), "lsattr", "-d", m.Dir()+"/x").CombinedOutput(); err != nil || !bytes.HasPrefix(out, []byte("----i-d-")) {
		t.Errorf("lsattr: %v: %s", err, out)
	}
	plain, err := unix.Open(m.Dir()+"/y", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(plain)
	if _, err := unix.IoctlGetUint32(plain, getFAT); !errors.Is(err, unix.ENOTTY) {
		t.Errorf("FAT attributes of a file without: %v", err)
	}
}

// childEnv makes this binary do something as another process: see TestMain.
const childEnv = "HOLDFAST_MOUNT_TEST"

func TestMain(m *testing.M) {
	what, rest, _ := strings.Cut(os.Getenv(childEnv), " ")
	switch what {
	case "":
		os.Exit(m.Run())
	case "xattrs":
		buf := make([]byte, 4096)
		n, err := unix.Llistxattr(rest, buf)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		for name := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
			fmt.Println(name)
		}
	case "clear":
		fmt.Println(Clear(context.Background(), rest))
	case "mount":
		os.Exit(mountUntilTold(rest))
	case "mount-slow":
		code := mountUntilTold(rest)
		dir, _, _ := strings.Cut(rest, " ")
		time.Sleep(300 * time.Millisecond) // it has more to do
		if err := os.WriteFile(dir+".last", nil, 0o600); err != nil {
			code = 1
		}
		os.Exit(code)
	}
}

// mountUntilTold mounts an archive file, says so, and waits for the end.
func mountUntilTold(args string) int {
	dir, file, _ := strings.Cut(args, " ")
	b, err := os.ReadFile(file)
	if err == nil {
		var a *pxar.Archive
		if a, err = pxar.OpenArchive(bytes.NewReader(b), int64(len(b)), nil, 0); err == nil {
			var m *Mount
			if m, err = New(dir, a, Options{Source: "a, b", Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}); err == nil {
				fmt.Println("mounted")
				<-m.Done()
				fmt.Println("ended")
				return 0
			}
		}
	}
	fmt.Println(err)
	return 1
}

// forUsers runs the test in a process that has a /dev/fuse of its own, if users
// may not open that of this machine. It returns true in a process where they
// may.
func forUsers(t *testing.T) bool {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat("/dev/fuse", &st); err != nil || st.Mode&0o006 == 0o006 {
		return err == nil
	}
	if os.Getenv("HOLDFAST_MOUNT_TEST_NAMESPACE") != "" {
		node := filepath.Join(t.TempDir(), "fuse")
		err := errors.Join(
			unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
			unix.Mknod(node, unix.S_IFCHR|0o666, int(st.Rdev)),
			os.Chmod(node, 0o666),
			unix.Mount(node, "/dev/fuse", "", unix.MS_BIND, ""),
		)
		if err != nil {
			t.Skipf("users may not use /dev/fuse, and no other can be made: %v", err)
		}
		return true
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "HOLDFAST_MOUNT_TEST_NAMESPACE=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("%s", out)
	return false
}

func TestUserMountsReadsAllAndUnmounts(t *testing.T) {
	needFUSE(t)
	if _, err := exec.LookPath("fusermount3"); err != nil {
		t.Skip("there is no fusermount3")
	}
	if !forUsers(t) {
		return
	}
	const user = 65534 // nobody: fusermount3 wants to know the name
	b := build(t, 1, func(w *writer) {
		w.must(w.AddBytes(&pxar.Entry{Name: "secret", Kind: pxar.File, Metadata: pxar.Metadata{Mode: pxar.ModeFile}}, []byte("of root")))
	})
	dir := t.TempDir()
	openToAll(t, dir)
	file, at, self := filepath.Join(dir, "a.pxar"), filepath.Join(dir, "at"), filepath.Join(dir, "self")
	mine, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(mine)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(file, b.meta, 0o644), os.WriteFile(self, program, 0o755), os.Mkdir(at, 0o700), os.Chown(at, user, user)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	start := func() (*exec.Cmd, func(want string)) {
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Env = append(os.Environ(), childEnv+"=mount "+at+" "+file)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
		cmd.Stderr = t.Output()
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		return cmd, func(want string) {
			t.Helper()
			buf := make([]byte, 200)
			if n, err := out.Read(buf); err != nil || string(buf[:n]) != want {
				t.Fatalf("the process says %q, %v; want %q", buf[:n], err, want)
			}
		}
	}
	cmd, says := start()
	says("mounted\n")
	if out, err := as(t, user, user, "cat", at+"/secret"); err != nil || out != "of root" {
		t.Errorf("the user reads %q, %v", out, err)
	}
	list, err := List()
	if err != nil || !slices.ContainsFunc(list, func(m fusemount.Mount) bool { return m.Path == at && m.Source == "a, b" }) {
		t.Errorf("%v, %v", list, err)
	}
	if out, err := as(t, user, user, "fusermount3", "-u", at); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	says("ended\n")
	_ = cmd.Wait()

	// A process that is killed leaves its mount, and that is cleared away.
	cmd, says = start()
	says("mounted\n")
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if out, err := as(t, user, user, "ls", at); err == nil || !strings.Contains(out, "not connected") {
		t.Errorf("what a killed process left: %v: %s", err, out)
	}
	t.Setenv(childEnv, "clear "+at)
	for _, want := range []string{"true <nil>\n", "false <nil>\n"} {
		if out, err := as(t, user, user, self); err != nil || out != want {
			t.Errorf("cleared: %q, %v; want %q", out, err, want)
		}
	}
	if out, err := as(t, user, user, "ls", at); err != nil || out != "" {
		t.Errorf("afterwards: %v: %s", err, out)
	}
}
