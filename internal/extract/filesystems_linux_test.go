package extract_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/holdfast-backup/holdfast/internal/extract"
	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"golang.org/x/sys/unix"
)

// mounted is a new file system of some size, made by mkfs with these arguments.
func mounted(t *testing.T, kind, size string, mkfs ...string) string {
	t.Helper()
	rootOnly(t)
	at := t.TempDir()
	if kind == "tmpfs" {
		if err := unix.Mount("tmpfs", at, "tmpfs", 0, "size="+size); err != nil {
			t.Skipf("nothing can be mounted here: %v", err)
		}
	} else {
		image := filepath.Join(t.TempDir(), "image")
		for _, args := range [][]string{
			{"truncate", "-s", size, image},
			append(append([]string{"mkfs." + kind}, mkfs...), image),
			{"mount", "-o", "loop", image, at},
		} {
			if text, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
				t.Skipf("%s: %v: %s", strings.Join(args, " "), err, text)
			}
		}
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, 0); err != nil {
			t.Errorf("%s: %v", at, err)
		}
	})
	return at
}

func TestFileSystemsKeepWhatTheyCan(t *testing.T) {
	none := filemeta.Set(0)
	everything := uint64(pxar.FlagAppend | pxar.FlagNoAtime | pxar.FlagNoDump | pxar.FlagImmutable | pxar.FlagSync)
	for _, tc := range []struct {
		name       string
		kind, size string
		mkfs       []string
		flags      uint64 // of a file
		project    uint64
		lost       filemeta.Set
	}{
		{"ext4", "ext4", "64M", []string{"-q"}, everything, 0, none},
		{"ext4 with projects", "ext4", "64M", []string{"-q", "-O", "project,quota"}, everything, 77, none},
		{"xfs", "xfs", "300M", []string{"-q"}, everything, 77, none},
		{"btrfs", "btrfs", "128M", []string{"-q"}, everything | pxar.FlagNoCOW, 0, none},
		{"tmpfs", "tmpfs", "64M", nil, pxar.FlagNoDump | pxar.FlagImmutable, 0, none},
		{"FAT", "vfat", "64M", nil, pxar.FlagHidden, 0, filemeta.SetOf(filemeta.Owner, filemeta.Xattrs, filemeta.FCaps, filemeta.ACLs)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			at := mounted(t, tc.kind, tc.size, tc.mkfs...)
			tree := rich()
			special := file("special", "x")
			special.Flags, special.ProjectID = tc.flags, tc.project
			shared := dir("of a project", file("in it", "y"))
			if tc.project > 0 {
				shared.Flags, shared.ProjectID = pxar.FlagProjectInherit, 99
			}
			tree.kids = append(tree.kids, special, shared)
			tree.sorted()
			target := filepath.Join(at, "target")
			t.Cleanup(func() { _ = exec.Command("chattr", "-R", "-ia", at).Run() })
			a := encode(t, tree, 2)
			told := 0
			res, err := extract.Directory(t.Context(), a.reader(t), target, extract.Options{Problem: func(p extract.Problem) { told++ }})
			if err != nil {
				t.Fatal(err)
			}
			v, err := extract.Verify(t.Context(), a.reader(t), target, extract.VerifyOptions{})
			if err != nil || !v.Explained(&res) {
				t.Errorf("%v, %+v, %+v", err, v, res)
			}
			if tc.kind == "vfat" { // neither links nor devices
				for w, m := range res.NotSet {
					if tc.lost.Has(filemeta.What(w)) && m.Count == 0 {
						t.Errorf("%s is lost and nobody says so", filemeta.What(w))
					}
				}
				if res.Failed.Symlinks != 2 || res.Failed.Hardlinks != 2 || res.Failed.FIFOs != 1 || res.Failed.Files != 1 || int64(told) != res.Failed.Entries()-res.Devices {
					t.Errorf("%d problems, %+v", told, res)
				}
				return
			}
			if !res.Complete() {
				t.Errorf("%+v", res)
			}
			compare(t, tree, target)
			// Another program sees the same.
			flags, err := exec.Command("lsattr", "-d", filepath.Join(target, "special")).Output()
			if err != nil || tc.flags&pxar.FlagImmutable != 0 && !strings.Contains(strings.Fields(string(flags))[0], "i") {
				t.Errorf("lsattr: %s, %v", flags, err)
			}
			again, err := extract.Directory(t.Context(), a.reader(t), target, extract.Options{InPlace: true, Checksum: true, Delete: true, Problem: problem(t)})
			if err != nil || !again.Complete() || again.Same != again.Asked || again.Changed != (extract.Count{}) {
				t.Errorf("in place: %v, %+v", err, again)
			}
		})
	}
}

// attributes is what getfattr and getfacl say of all that is below a directory.
func attributes(t *testing.T, root string) string {
	t.Helper()
	var all strings.Builder
	for _, command := range []string{"find . ! -type s | sort | xargs -d '\\n' getfattr -h -d -m - -e hex", "find . ! -type s | sort | xargs -d '\\n' getfacl -n -p"} {
		cmd := exec.Command("sh", "-c", command)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		out, err := cmd.CombinedOutput()
		if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
			t.Skipf("%s: %v, %v", command, err, exit)
		}
		all.Write(out)
	}
	return all.String()
}

func TestGNUTarAndDirectoryMakeTheSame(t *testing.T) {
	rootOnly(t)
	tree := rich().without(pxar.Socket)
	for _, k := range tree.kids {
		k.Name = strings.ReplaceAll(k.Name, "\n", "") // for xargs
	}
	tree.sorted()
	a := encode(t, tree, 2)
	root := t.TempDir()
	ours, theirs := filepath.Join(root, "ours"), filepath.Join(root, "theirs")
	if _, err := extract.Directory(t.Context(), a.reader(t), ours, extract.Options{Problem: problem(t)}); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(root, "a.tar"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = extract.Tar(t.Context(), a.walker(t, extract.Selection{Metadata: true}), out, extract.StreamOptions{Problem: problem(t)})
	if err := errors.Join(err, out.Close(), os.Mkdir(theirs, 0o700)); err != nil {
		t.Fatal(err)
	}
	if text, err := exec.Command("tar", "-xp", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "-f", out.Name(), "-C", theirs).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	got, want := attributes(t, ours), attributes(t, theirs)
	if !strings.Contains(want, "user:12345:rw-") || !strings.Contains(want, "security.capability=0x") || !strings.Contains(want, "default:user:5:rwx") {
		t.Fatalf("the comparison sees nothing:\n%s", want)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-tar +directory):\n%s", diff)
	}
}
