package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/appliance"
	"github.com/holdfast-backup/holdfast/internal/appliance/appliancetest"
	"github.com/holdfast-backup/holdfast/internal/extract"
	"github.com/holdfast-backup/holdfast/internal/filerestore"
	"github.com/holdfast-backup/holdfast/internal/filerestore/direct"
	"github.com/holdfast-backup/holdfast/internal/image"
)

const initprog = "github.com/holdfast-backup/holdfast/internal/filerestore/vm/initprog"

// makeVolumes makes a volume group on one disk and an array of two, in a guest.
const makeVolumes = `
set -e
export LVM_SYSTEM_DIR=/tmp/lvm LVM_SUPPRESS_FD_WARNINGS=1 DM_DISABLE_UDEV=1
mkdir -p /tmp/lvm /run/lock/lvm /run/mdadm /m
cat >/tmp/lvm/lvm.conf <<END
devices { use_devicesfile=0 }
backup { backup=0 archive=0 }
activation { udev_sync=0 udev_rules=0 verify_udev_operations=0 monitoring=0 }
global { use_lvmpolld=0 thin_check_executable="" }
END
lvm pvcreate -q /dev/vda
lvm vgcreate -q -s 1M the-group /dev/vda
lvm lvcreate -q -y -Wn -Zn -n the-root -l 20 the-group
lvm lvcreate -q -y --type thin-pool -Zn -l 40 -n pool the-group
lvm lvcreate -q -y -Wn -V 30M --thinpool pool -n thin the-group
mdadm --create /dev/md0 --run --metadata=1.2 --name=array --level=1 --raid-devices=2 --assume-clean /dev/vdb /dev/vdc
echo -n "let me in" | cryptsetup open --type luks2 --key-file=- /dev/vdd clear
for d in /dev/mapper/clear /dev/mapper/the--group-the--root /dev/mapper/the--group-thin /dev/md0; do
	mke2fs -q -t ext4 $d
	mount -t ext4 $d /m
	echo "content of $d" >/m/file
	umount /m
done
lvm vgchange -q -an the-group
cryptsetup close clear
mdadm --stop /dev/md0
`

func sparse(t *testing.T, name string, mib int64) string {
	t.Helper()
	if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Truncate(name, mib<<20)); err != nil {
		t.Fatal(err)
	}
	return name
}

func tool(t *testing.T, stdin string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); errors.Is(err, exec.ErrNotFound) {
		appliancetest.Lack(t, err)
	} else if err != nil {
		t.Fatalf("%q: %v\n%s", args, err, out)
	}
}

// makeImages makes the disks of a snapshot: one with a table, a bare file system, a
// group, and an array on two.
func makeImages(t *testing.T) []Disk {
	t.Helper()
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	if err := errors.Join(os.MkdirAll(tree+"/etc/deep", 0o755), os.WriteFile(tree+"/etc/hosts", []byte("hello\n"), 0o640),
		os.Link(tree+"/etc/hosts", tree+"/etc/again"), os.Symlink("hosts", tree+"/etc/link"), os.WriteFile(tree+"/etc/\xff\n", nil, 0o600),
		os.WriteFile(tree+"/big", bytes.Repeat([]byte("0123456789abcdef"), 100_000), 0o644), syscall.Mkfifo(tree+"/pipe", 0o600)); err != nil {
		t.Fatal(err)
	}
	sparse(t, tree+"/hole", 40)
	bare := sparse(t, dir+"/bare", 32)
	tool(t, "", "mke2fs", "-q", "-t", "ext4", "-d", tree, bare)
	disk := sparse(t, dir+"/disk", 64)
	tool(t, "label: gpt\nsize=32M, name=root\nsize=4M, name=swap\n", "sfdisk", "-q", disk)
	tool(t, "", "dd", "if="+bare, "of="+disk, "bs=1M", "seek=1", "conv=notrunc")
	swap := sparse(t, dir+"/swap", 4)
	tool(t, "", "mkswap", swap)
	tool(t, "", "dd", "if="+swap, "of="+disk, "bs=1M", "seek=33", "conv=notrunc")
	volumes := []string{sparse(t, dir+"/lvm", 96), sparse(t, dir+"/a", 32), sparse(t, dir+"/b", 32), sparse(t, dir+"/crypt", 48)}
	tool(t, "let me in", "cryptsetup", "luksFormat", "-q", "--key-file=-", "--type=luks2", "--pbkdf-memory=4096", "--pbkdf-force-iterations=4", volumes[3])
	fill(t, volumes)
	var all []Disk
	for i, f := range append([]string{disk, bare}, volumes...) {
		img, err := image.OpenFile(f, image.FileOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = img.Close() })
		all = append(all, Disk{fmt.Sprintf("scsi%d.img.fidx", i), img})
	}
	return all
}

func fill(t *testing.T, volumes []string) {
	t.Helper()
	var drives []appliance.Drive
	for _, v := range volumes {
		drives = append(drives, appliance.Drive{Path: v})
	}
	files := []appliance.File{{Name: "/etc/mke2fs.conf", From: "/etc/mke2fs.conf"}}
	libgcc, err := filepath.Glob("/lib/*/libgcc_s.so.1") // which threads load when they end
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range libgcc {
		files = append(files, appliance.File{Name: f, From: f})
	}
	guest := appliancetest.Start(t, appliancetest.Spec{
		Modules: []string{"ext4", "dm-mod", "dm-thin-pool", "raid1", "dm-crypt", "xts", "aes_generic"}, Drives: drives,
		Tools: []string{"lvm", "mdadm", "cryptsetup", "mke2fs", "sh", "cat", "mkdir", "mount", "umount"},
		Files: files,
	})
	var out bytes.Buffer
	r, err := guest.Run(t.Context(), appliance.Cmd{Args: []string{"sh", "-c", makeVolumes}, Stdout: &out, Stderr: &out})
	if err = errors.Join(err, r.Err(), guest.Shutdown(t.Context())); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
}

func path(t *testing.T, s string) filerestore.Path {
	t.Helper()
	p, err := filerestore.ParsePath(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// listing is a list without what people alone read.
func listing(t *testing.T, d filerestore.Driver, s string) string {
	t.Helper()
	all, err := d.List(t.Context(), path(t, s))
	if err != nil {
		return err.Error()
	}
	filerestore.Sort(all)
	var b strings.Builder
	for _, e := range all {
		fmt.Fprintf(&b, "%c %q", e.Type, e.Path.String())
		if e.Size != nil {
			fmt.Fprintf(&b, " %d", *e.Size)
		}
		if e.Mtime != nil {
			fmt.Fprintf(&b, " at %d", *e.Mtime)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func tarOf(t *testing.T, d filerestore.Driver, s string) []byte {
	t.Helper()
	p, err := d.Open(t.Context(), path(t, s), filerestore.OpenOptions{Metadata: true})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var out bytes.Buffer
	if _, err := extract.Tar(t.Context(), p, &out, extract.StreamOptions{}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestTheMachineReadsWhatItsDisksHave(t *testing.T) {
	disks := makeImages(t)
	m := newServing(t, disks, Options{})
	c, _, err := Ensure(t.Context(), m.dir, "name", m.start)
	if err != nil {
		t.Fatal(err)
	}
	var plain []direct.Disk
	for _, d := range disks {
		plain = append(plain, direct.Disk{Archive: d.Archive, Image: d.Image})
	}
	readers, d := direct.New(plain), c.Driver()

	t.Run("as the readers in user space do", func(t *testing.T) {
		for _, p := range []string{
			"/scsi0.img.fidx", "/scsi0.img.fidx/part", "/scsi0.img.fidx/part/1", "/scsi0.img.fidx/part/1/etc", "/scsi0.img.fidx/part/1/etc/hosts",
			"/scsi1.img.fidx", "/scsi1.img.fidx/raw/etc", "/scsi2.img.fidx", "/scsi2.img.fidx/lvm",
			"/scsi2.img.fidx/lvm/the-group/the-root", "/scsi2.img.fidx/lvm/the-group/thin", "/scsi3.img.fidx",
		} {
			if want, got := listing(t, readers, p), listing(t, d, p); got != want {
				t.Errorf("%s:\n%s\nwant\n%s", p, got, want)
			}
		}
		for _, p := range []string{"/scsi0.img.fidx/part/1", "/scsi0.img.fidx/part/1/etc/hosts", "/scsi1.img.fidx/raw", "/scsi2.img.fidx/lvm/the-group/thin"} {
			if !bytes.Equal(tarOf(t, readers, p), tarOf(t, d, p)) {
				t.Errorf("%s: the archives differ", p)
			}
		}
	})
	t.Run("a group without its pools", func(t *testing.T) {
		const want = "d \"/scsi2.img.fidx/lvm/the-group/the-root\" 20971520\nd \"/scsi2.img.fidx/lvm/the-group/thin\" 31457280\n"
		if got := listing(t, d, "/scsi2.img.fidx/lvm/the-group"); got != want {
			t.Errorf("%s", got)
		}
	})
	t.Run("an array", func(t *testing.T) {
		if got := listing(t, d, "/scsi3.img.fidx"); got != "v \"/scsi3.img.fidx/md\"\n" {
			t.Errorf("%s", got)
		}
		all, err := d.List(t.Context(), path(t, "/scsi4.img.fidx/md"))
		if err != nil || len(all) != 1 || all[0].Path.Base() != "array" || all[0].Note != "ext4" {
			t.Errorf("%+v, %v", all, err)
		}
		if out := tarOf(t, d, "/scsi4.img.fidx/md/array/file"); !bytes.Contains(out, []byte("content of /dev/md0\n")) {
			t.Errorf("%q", out)
		}
	})
	t.Run("an encrypted volume, as soon as its passphrase is given", func(t *testing.T) {
		p := path(t, "/scsi5.img.fidx/raw/file")
		if _, err := d.List(t.Context(), p); !errors.Is(err, ErrLocked) {
			t.Errorf("%v", err)
		}
		if err := c.Unlock(t.Context(), p, []byte("let me out")); !errors.Is(err, ErrPassphrase) {
			t.Errorf("%v", err)
		}
		if err := c.Unlock(t.Context(), p, []byte("let me in")); err != nil {
			t.Error(err)
		}
		if out := tarOf(t, d, p.String()); !bytes.Contains(out, []byte("content of /dev/mapper/clear\n")) {
			t.Errorf("%q", out)
		}
	})
	t.Run("errors keep their kinds", func(t *testing.T) {
		for _, p := range []string{"/scsi0.img.fidx/part/7", "/scsi0.img.fidx/part/2", "/scsi0.img.fidx/part/1/none", "/scsi0.img.fidx/part/1/etc/link/x", "/scsi0.img.fidx/part/1/big/x", "/none", "/scsi2.img.fidx/lvm/none"} {
			if _, err := d.List(t.Context(), path(t, p)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %v", p, err)
			}
		}
		if _, err := d.Open(t.Context(), path(t, "/scsi0.img.fidx"), filerestore.OpenOptions{}); !errors.Is(err, filerestore.ErrPath) {
			t.Errorf("%v", err)
		}
	})
	t.Run("a wrong ticket opens nothing", func(t *testing.T) {
		other := c.m
		other.Ticket = "another"
		wrong := newClient("name", other)
		if _, err := wrong.Status(t.Context(), true); err == nil || !strings.Contains(err.Error(), "ticket") {
			t.Errorf("%v", err)
		}
		if _, err := wrong.Driver().List(t.Context(), path(t, "/scsi0.img.fidx")); err == nil || !strings.Contains(err.Error(), "ticket") {
			t.Errorf("%v", err)
		}
	})
	t.Run("many callers at a time", func(t *testing.T) {
		want := listing(t, d, "/scsi0.img.fidx/part/1/etc")
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				if got := listing(t, c.Driver(), "/scsi0.img.fidx/part/1/etc"); got != want {
					t.Errorf("%s", got)
				}
			})
		}
		wg.Wait()
	})
	t.Run("a caller who leaves ends what it asked for", func(t *testing.T) {
		p, err := d.Open(t.Context(), path(t, "/scsi0.img.fidx/part/1"), filerestore.OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Next(); err != nil {
			t.Fatal(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if got := listing(t, d, "/scsi1.img.fidx"); !strings.Contains(got, "raw") {
			t.Errorf("%s", got)
		}
	})
	t.Run("more trees than it sends at a time are refused", func(t *testing.T) {
		var open []filerestore.Part
		defer func() {
			for _, p := range open {
				_ = p.Close()
			}
		}()
		for range maxTrees { // none is read to its end, so that all wait
			p, err := d.Open(t.Context(), path(t, "/scsi0.img.fidx/part/1"), filerestore.OpenOptions{})
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, p)
		}
		if _, err := d.Open(t.Context(), path(t, "/scsi0.img.fidx/part/1"), filerestore.OpenOptions{}); err == nil || !strings.Contains(err.Error(), "try again later") {
			t.Errorf("%v", err)
		}
	})
	t.Run("a caller who is out of time is told so", func(t *testing.T) {
		late := errors.New("out of time")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(late)
		if _, err := d.List(ctx, path(t, "/scsi0.img.fidx")); !errors.Is(err, late) {
			t.Errorf("%v", err)
		}
	})
	t.Run("a machine that dies is told of and forgotten", func(t *testing.T) {
		p, err := d.Open(t.Context(), path(t, "/scsi0.img.fidx/part/1"), filerestore.OpenOptions{})
		for err != nil && strings.Contains(err.Error(), "try again later") { // those from above are on their way out
			p, err = d.Open(t.Context(), path(t, "/scsi0.img.fidx/part/1"), filerestore.OpenOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		signalQEMU(t, syscall.SIGKILL)
		for err == nil {
			if _, err = p.Next(); err == nil {
				_, err = io.Copy(io.Discard, p)
			}
		}
		if errors.Is(err, io.EOF) { // all of it was on its way already
			t.Log("the stream was whole")
		}
		if err := <-m.ended; err == nil || !strings.Contains(err.Error(), "ended by itself") {
			t.Errorf("%v", err)
		}
		if names, err := Names(t.Context(), m.dir); err != nil || len(names) > 0 {
			t.Errorf("%v, %v", names, err)
		}
		if _, err := d.List(t.Context(), path(t, "/scsi0.img.fidx")); err == nil {
			t.Error("it answers")
		}
	})
}

// signalQEMU sends a signal to the child of this process that is a QEMU.
func signalQEMU(t *testing.T, s syscall.Signal) {
	t.Helper()
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lists {
		b, err := os.ReadFile(l)
		if err != nil {
			continue
		}
		for f := range strings.FieldsSeq(string(b)) {
			line, err := os.ReadFile("/proc/" + f + "/cmdline")
			if err == nil && bytes.Contains(line, []byte("holdfast-appliance")) {
				pid, err := strconv.Atoi(f)
				if err = errors.Join(err, syscall.Kill(pid, s)); err != nil {
					t.Fatal(err)
				}
				return
			}
		}
	}
	t.Fatal("no QEMU is a child of this process")
}
