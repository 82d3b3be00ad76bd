package extract_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/extract"
	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"golang.org/x/sys/unix"
)

const (
	nobody  = 65534
	userDir = "HOLDFAST_TEST_USER_DIR"
)

// asUser runs the rest of a test without the rights of root, in a process of its
// own if it has them, and returns a directory of that user's; "" in the parent.
func asUser(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv(userDir); dir != "" {
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(nobody), syscall.Setuid(nobody)); err != nil {
			t.Fatal(err)
		}
		uid, gid = nobody, nobody
		return dir
	}
	dir := t.TempDir()
	if os.Geteuid() != 0 {
		return dir
	}
	if err := errors.Join(os.Chown(dir, nobody, nobody), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1")
	cmd.Env = append(os.Environ(), userDir+"="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("as a user: %v\n%s", err, out)
	}
	return ""
}

func TestUserGetsAllOfHisOwnFiles(t *testing.T) {
	home := asUser(t)
	if home == "" {
		return
	}
	tree := sample()
	readonly := file("readonly", "x")
	readonly.Mode = pxar.ModeFile | 0o400
	readonly.Xattrs = []pxar.Xattr{{Name: "user.x", Value: []byte("y")}}
	setid := file("set-id", "x")
	setid.Mode |= 0o6000
	tree.kids = append(tree.kids, readonly, setid)
	tree.sorted()
	target := filepath.Join(home, "target")
	unreadable := file("unreadable", "x")
	unreadable.Mode = pxar.ModeFile
	for _, o := range []extract.Options{extract.Options{}.ByProc(), {InPlace: true, Checksum: true, Delete: true}} {
		o.Problem = problem(t)
		res, err := extract.Directory(t.Context(), encode(t, tree, 2).reader(t), target, o)
		if err != nil || !res.Complete() {
			t.Fatalf("%v, %+v", err, res)
		}
		compare(t, tree, target)
	}
	tree = dir("", unreadable)
	target = filepath.Join(home, "unreadable")
	if _, err := extract.Directory(t.Context(), encode(t, tree, 2).reader(t), target, extract.Options{Problem: problem(t)}); err != nil {
		t.Fatal(err)
	}
	v, err := extract.Verify(t.Context(), encode(t, tree, 2).reader(t), target, extract.VerifyOptions{Problem: problem(t)})
	if err != nil || v.Unread != 1 || !v.Explained(new(extract.Result)) {
		t.Errorf("%v, %+v", err, v)
	}
}

func TestWhatAUserCannotSetIsCountedAndTheRestIsDone(t *testing.T) {
	home := asUser(t)
	if home == "" {
		return
	}
	f := file("f", "x")
	f.UID, f.Mode = 0, pxar.ModeFile|0o6755
	f.FCaps = []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	f.Xattrs = []pxar.Xattr{{Name: "trusted.x"}, {Name: "user.x"}}
	tree := dir("", f, &node{Entry: device("null", pxar.CharDevice, pxar.ModeCharDevice|0o666, 1, 3)}, file("z", "y"))
	target := filepath.Join(home, "target")
	res, err := extract.Directory(t.Context(), encode(t, tree, 1).reader(t), target, extract.Options{Problem: problem(t)})
	if err != nil || res.Made.Files != 2 || res.Devices != 1 || res.Failed != (extract.Count{Devices: 1}) || res.Complete() {
		t.Errorf("%v, %+v", err, res)
	}
	for w, n := range map[filemeta.What]int64{filemeta.Owner: 1, filemeta.Mode: 1, filemeta.FCaps: 1, filemeta.Xattrs: 1, filemeta.Mtime: 0, filemeta.ACLs: 0} {
		m := res.NotSet[w]
		if m.Count != n || n > 0 && (m.Path != "/f" || m.Err == nil || m.Unsupported != 0) {
			t.Errorf("%s: %+v", w, m)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(target, "f"), &st); err != nil || st.Mode&0o7777 != 0o755 || st.Mtim.Nsec != int64(f.Mtime.Nsec) {
		t.Errorf("%o, %v, %v", st.Mode, st.Mtim, err)
	}
	v, err := extract.Verify(t.Context(), encode(t, tree, 1).reader(t), target, extract.VerifyOptions{})
	if err != nil || !v.Explained(&res) || v.Explained(new(extract.Result)) {
		t.Errorf("%v, %+v", err, v)
	}
	// In place it stays as it is, and is counted again.
	again, err := extract.Directory(t.Context(), encode(t, tree, 1).reader(t), target, extract.Options{InPlace: true, Problem: problem(t)})
	if err != nil || again.Same.Files != 2 || again.NotSet[filemeta.Owner].Count != 1 {
		t.Errorf("%v, %+v", err, again)
	}
}

func TestDirectoryThatAUserMayNotWriteToFailsAlone(t *testing.T) {
	home := asUser(t)
	if home == "" {
		return
	}
	// A directory of his own without the permission is no obstacle.
	tree := dir("", dir("mine", file("f", "1")), file("z", "2"))
	target := filepath.Join(home, "target")
	if err := errors.Join(os.MkdirAll(filepath.Join(target, "mine"), 0o755), os.Chmod(filepath.Join(target, "mine"), 0o500)); err != nil {
		t.Fatal(err)
	}
	res, err := extract.Directory(t.Context(), encode(t, tree, 1).reader(t), target, extract.Options{Existing: extract.Dirs, Problem: problem(t)})
	if err != nil || !res.Complete() {
		t.Errorf("%v, %+v", err, res)
	}
	compare(t, tree, target)
	// A directory whose metadata stays keeps its mode too.
	kept := filepath.Join(home, "kept")
	if err := os.Mkdir(kept, 0o500); err != nil {
		t.Fatal(err)
	}
	if _, err := extract.Directory(t.Context(), encode(t, tree, 1).reader(t), kept, extract.Options{KeepRoot: true, Problem: problem(t)}); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(kept); err != nil || info.Mode().Perm() != 0o500 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	// In that of somebody else nothing is made, and the rest is.
	var paths []string
	tree = dir("", dir("usr", dir("of "+filepath.Base(home), file("f", "1"))), file("zz-"+filepath.Base(home), "2"))
	res, err = extract.Directory(t.Context(), encode(t, tree, 1).reader(t), "/", extract.Options{
		Existing: extract.Dirs, KeepRoot: true, Problem: func(p extract.Problem) { paths = append(paths, p.Path) },
	})
	if err != nil || res.Failed.Files != 2 || res.Failed.Dirs == 0 || len(paths) < 2 {
		t.Errorf("%v, %+v, %q", err, res, paths)
	}
}
