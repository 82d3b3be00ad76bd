//go:build linux

package pve

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// python is one that everybody may run.
const python = "/usr/bin/python3"

// root is the user of the host that is root in a container.
const root = 100_000

// inside runs a command as root of a container.
func (r *rig) inside(name string, args ...string) string {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), name, args...)
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: root, Size: 65536}}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
		Credential: &syscall.Credential{},
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// check is a script of test/check, where a container can read it.
func (r *rig) check(name string) string {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join("../check", name))
	if err != nil {
		r.t.Fatal(err)
	}
	path := r.path(name)
	if err := os.WriteFile(path, b, 0o644); err != nil {
		r.t.Fatal(err)
	}
	return path
}

// directory makes one that belongs to the root of a container.
func (r *rig) directory(name string) string {
	r.t.Helper()
	path := r.path(name)
	if err := os.MkdirAll(path, 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Chown(path, root, root); err != nil {
		r.t.Fatal(err)
	}
	return path
}

const ctConfig = "arch: amd64\nrootfs: local:101/disk\n"

func container(dir string, more map[string]any) map[string]any {
	g := map[string]any{"vmid": 101, "type": "lxc", "config": ctConfig, "directory": dir, "sources": []string{"./"}, "root": root, "exclude": []string{}}
	for k, v := range more {
		g[k] = v
	}
	return g
}

// written is a file with a text.
func (r *rig) written(text string) string {
	r.t.Helper()
	f, err := os.CreateTemp(r.dir, "listing-*")
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.WriteString(text); err != nil {
		r.t.Fatal(err)
	}
	return f.Name()
}

// shown is the listing of an archive's tree, mounted.
func (r *rig) shown(target string) string {
	r.t.Helper()
	dir := r.t.TempDir()
	r.holdfast("mount", target, "root.pxar", dir, "--count-links")
	defer r.holdfast("unmount", dir)
	out, err := exec.Command(python, r.check("treecmp.py"), "--list", dir).Output()
	if err != nil {
		r.t.Fatal(err)
	}
	return r.written(string(out))
}

func (r *rig) compare(a, b string, options ...string) {
	r.t.Helper()
	args := append([]string{r.check("treecmp.py")}, append(options, a, b)...)
	if out, err := exec.Command(python, args...).CombinedOutput(); err != nil {
		r.t.Errorf("the trees differ: %v\n%s", err, out)
	}
}

func (r *rig) must(name string, args ...string) {
	r.t.Helper()
	if out, err := exec.CommandContext(r.t.Context(), name, args...).CombinedOutput(); err != nil {
		r.t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

// Every kind of file and attribute, as the container sees it.
func TestContainerIsStoredAsItSeesItself(t *testing.T) {
	need(t, python, "setfacl", "setcap")
	r := newRig(t)
	dir := r.directory("rootfs")
	r.inside(python, r.check("mktree.py"), "--big", "40", dir)
	read := []string{}
	for n := range 3 {
		before := r.written(r.inside(python, r.check("treecmp.py"), "--list", dir))
		o := r.perl(job(start+100*n, nil, container(dir, nil)))
		if o.Error != "" || o.Guests[0].Error != "" {
			t.Fatalf("%+v", o)
		}
		r.compare(before, r.shown(o.Guests[0].Target), "--ignore", "blocks", "--ignore", "project", "--ignore", "flags")
		read = append(read, o.Log[len(o.Log)-1])
		if n == 1 {
			r.inside(python, r.check("mktree.py"), "--change", "20", dir)
		}
	}
	if !strings.Contains(strings.Join(read[1:2], ""), ": 0.") || strings.Contains(read[0], ": 0.") {
		t.Errorf("unchanged files were read: %q", read)
	}
	r.holdfast("verify")
}

// What is on other file systems, and what is excluded.
func TestSourcesAndPatternsSayWhatIsStored(t *testing.T) {
	need(t, python)
	r := newRig(t)
	dir := r.directory("rootfs")
	for _, d := range []string{"mnt/data", "mnt/other", "var/tmp", "home/var/tmp", "lost+found"} {
		r.inside("mkdir", "-p", filepath.Join(dir, d))
	}
	for _, d := range []string{"mnt/data", "mnt/other"} {
		at := filepath.Join(dir, d)
		r.must("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=1m,uid=%d,gid=%d,mode=755", root, root), "tmpfs", at)
		t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	}
	for _, f := range []string{"keep", "drop.bak", "mnt/data/in", "mnt/data/drop.bak", "mnt/other/out", "var/tmp/gone", "home/var/tmp/stays", "lost+found/x"} {
		r.inside("touch", filepath.Join(dir, f))
	}
	o := r.perl(job(start, nil, container(dir, map[string]any{
		"sources": []string{"./", "./mnt/data"},
		"exclude": []string{"/var/tmp/?*", "*.bak"},
	})))
	if o.Error != "" || o.Guests[0].Error != "" {
		t.Fatalf("%+v", o)
	}
	mount := t.TempDir()
	r.holdfast("mount", o.Guests[0].Target, "root.pxar", mount)
	defer r.holdfast("unmount", mount)
	out, err := exec.Command("find", mount, "-type", "f", "-printf", "%P\n").Output()
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Fields(string(out))
	slices.Sort(got)
	if want := []string{".pxarexclude-cli", "home/var/tmp/stays", "keep", "mnt/data/in"}; !slices.Equal(got, want) && !slices.Equal(got, want[1:]) {
		t.Errorf("stored: %q", got)
	}
}

// restored is a container restored as Proxmox VE does.
func (r *rig) restored(target, like string) string {
	r.t.Helper()
	dir := r.directory("restored-" + filepath.Base(target))
	o := r.perl(map[string]any{"restore": map[string]any{"volname": "backup/" + target, "target": dir, "root": root}})
	if o.Error != "" || o.Config != ctConfig {
		r.t.Fatalf("restore of %s: %s %q\n%s", target, o.Error, o.Config, o.log())
	}
	// tar leaves the directory itself alone: it was there.
	info, err := os.Stat(like)
	if err == nil {
		err = os.Chtimes(dir, info.ModTime(), info.ModTime())
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return dir
}

// plainTree is what tar can keep.
func (r *rig) plainTree(dir string) {
	r.t.Helper()
	r.inside("sh", "-c", `cd "$1" && mkdir -p bin etc home/u dev sbin && echo conf >etc/conf && ln etc/conf home/u/link && ln -s ../etc/conf bin/sym &&
		chown 1000:1000 home/u && chmod 4755 etc/conf && touch -d '2001-02-03 04:05:06.789' etc/old && head -c 5000000 /dev/urandom >home/u/data &&
		truncate -s 3M home/u/sparse && setfattr -n user.note -v text etc/old && setfacl -m u:1234:r etc/old && cp /bin/true bin/capable &&
		setcap cap_net_raw+ep bin/capable`, "sh", dir)
}

func TestContainerIsRestoredAsProxmoxDoes(t *testing.T) {
	need(t, python, "setfacl", "setcap", "setfattr", "mksquashfs")
	t.Run("repository", func(t *testing.T) { asProxmoxDoes(t, newRig(t)) })
	for format, lacks := range map[string][]string{
		"tar":      {"--skip", ".pxarexclude-cli"},
		"squashfs": {"--skip", ".pxarexclude-cli", "--ignore", "mtime", "--ignore", "xattr:system.posix_acl_"}, // it has seconds and no ACLs
	} {
		t.Run("directory, "+format, func(t *testing.T) {
			r := newDirectoryRig(t)
			r.storage["hf-lxc-mode"] = format
			asProxmoxDoes(t, r, lacks...)
		})
	}
}

func asProxmoxDoes(t *testing.T, r *rig, lacks ...string) {
	dir := r.directory("rootfs")
	r.plainTree(dir)
	o := r.perl(job(start, map[string]any{"bwlimit": 100_000}, container(dir, nil)))
	if o.Error != "" || o.Guests[0].Error != "" {
		t.Fatalf("%+v", o)
	}
	r.compare(dir, r.restored(o.Guests[0].Target, dir), append(lacks, "--ignore", "blocks")...)
	if got := r.perl(map[string]any{"restore": map[string]any{"volname": "backup/" + o.Guests[0].Target, "target": r.directory("again"), "root": root, "fail": "convert"}}); !strings.Contains(got.Error, "made to fail") {
		t.Errorf("%+v", got)
	}
}

func TestFailureAtEveryPlaceOfAContainer(t *testing.T) {
	need(t, python, "setfacl", "setcap", "setfattr")
	r := newRig(t)
	dir := r.directory("rootfs")
	r.plainTree(dir)
	first := r.perl(job(start, nil, container(dir, nil)))
	if first.Error != "" || first.Guests[0].Error != "" {
		t.Fatalf("%+v", first)
	}
	for n, place := range first.Places {
		o := r.perl(job(start+100*(n+1), map[string]any{"fail": place}, container(dir, nil)))
		if failed := o.Error != "" || o.Guests[0].Error != ""; !failed && !strings.Contains(place, "notes") {
			t.Errorf("%s: %+v", place, o)
		}
	}
	o := r.perl(job(start+100_000, nil, container(dir, nil)))
	if o.Error != "" || o.Guests[0].Error != "" {
		t.Fatalf("%+v", o)
	}
	r.compare(dir, r.restored(o.Guests[0].Target, dir), "--ignore", "blocks")
}

// A privileged container needs no namespace.
func TestPrivilegedContainerIsStored(t *testing.T) {
	need(t)
	r := newRig(t)
	dir := r.path("rootfs")
	if err := os.MkdirAll(filepath.Join(dir, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	o := r.perl(job(start, nil, container(dir, map[string]any{"root": 0})))
	if o.Error != "" || o.Guests[0].Error != "" {
		t.Fatalf("%+v", o)
	}
}

// The process in the namespace is killed: nothing is listed.
func TestKilledWalkLeavesNothing(t *testing.T) {
	need(t)
	r := newRig(t)
	dir := r.directory("rootfs")
	r.inside("sh", "-c", `head -c 30000000 /dev/urandom >"$1/data"`, "sh", dir)
	for n, what := range []string{"walk", "serve"} {
		o := r.perl(job(start+100*n, map[string]any{"bwlimit": 2000}, container(dir, map[string]any{"kill": what})))
		if !strings.Contains(o.Guests[0].Error, "has ended") || len(r.list(101)) != 0 {
			t.Errorf("%s: %+v", what, o)
		}
	}
	if o := r.perl(job(start+1000, nil, container(dir, nil))); o.Guests[0].Error != "" || len(r.list(101)) != 1 {
		t.Errorf("%+v", o)
	}
}
