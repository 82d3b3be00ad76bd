package vm

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/appliance"
	"github.com/holdfast-backup/holdfast/internal/appliance/appliancetest"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// disks are images by their names, in the order of the drives of who fills them.
type testDisk struct {
	name   string
	mib    int64
	make   []string // a program of the host that makes what is on it; its file is added
	filled bool     // by the guest, as the next of its drives
}

var testDisks = []testDisk{
	{name: "lvm1", mib: 96, filled: true},
	{name: "lvm2", mib: 48, filled: true},
	{name: "arrays", mib: 200, filled: true, make: []string{"sfdisk", "-q"}},
	{name: "luks1", mib: 24, filled: true, make: luksFormat("luks1", "--pbkdf-force-iterations=1000")},
	{name: "luks2", mib: 48, filled: true, make: luksFormat("luks2", "--pbkdf-memory=4096", "--pbkdf-force-iterations=4")},
	{name: "xfs", mib: 304, filled: true, make: []string{"mkfs.xfs", "-q"}},
	{name: "btrfs", mib: 128, filled: true, make: []string{"mkfs.btrfs", "-q"}},
	{name: "journal", mib: 32, filled: true, make: []string{"mke2fs", "-q", "-t", "ext4"}},
	{name: "exfat", mib: 16, filled: true, make: []string{"mkfs.exfat"}},
	{name: "vfat", mib: 40, filled: true, make: []string{"mkfs.vfat", "-F", "32"}},
	{name: "udf", mib: 16, filled: true, make: []string{"mkudffs", "-b", "2048"}},
	{name: "inner", mib: 12, filled: true},                                                                   // a disk that becomes a logical volume
	{name: "proto", mib: 10, filled: true, make: []string{"mke2fs", "-q", "-t", "ext4", "-b", "4096", "-d"}}, // what is on all volumes
	{name: "ntfs", mib: 16, make: []string{"mkfs.ntfs", "-q", "-F", "-f"}},
	{name: "empty", mib: 1},
}

const passphrase = "let me in"

func luksFormat(kind string, more ...string) []string {
	return append([]string{"cryptsetup", "luksFormat", "-q", "--key-file=-", "--type=" + kind}, more...)
}

// fillVolumes runs in a guest: it makes volumes of all kinds and puts files on them. What is
// mounted at its end is left as it is when the plug is pulled.
const fillVolumes = `
set -e
export LVM_SYSTEM_DIR=/tmp/lvm LVM_SUPPRESS_FD_WARNINGS=1 DM_DISABLE_UDEV=1
mkdir -p /tmp/lvm /run/lock/lvm /run/mdadm /m /x /b /j
cat >/tmp/lvm/lvm.conf <<END
devices { use_devicesfile=0 }
backup { backup=0 archive=0 }
activation { udev_sync=0 udev_rules=0 verify_udev_operations=0 monitoring=0 }
global { use_lvmpolld=0 thin_check_executable="" }
END
files() { # DIRECTORY: what every file system can hold
	mkdir -p $1/deep/er
	echo "content of $2" >$1/file
	echo hello >"$1/deep/er/a name that is too long for eight and three"
	dd if=/dev/zero bs=1000 count=200 of=$1/deep/zeros 2>/dev/null
	head -c 300000 /init >$1/deep/program
	>$1/empty
}
unix() { # and what those of Unix can
	ln $1/deep/zeros $1/deep/zz
	ln -s ../file $1/deep/link
	ln -s $(head -c 300 /dev/zero | tr '\0' x) $1/deep/long
	mkfifo $1/pipe
	mknod $1/null c 1 3
	chmod 640 $1/file
	chown 1000:100 $1/file
	dd if=/dev/zero bs=1 count=1 seek=5000000 of=$1/hole 2>/dev/null
	setfattr -n user.note -v "what a note" $1/file
}
put() { # DEVICE: an ext4 with files
	dd if=/dev/vdm of=$1 bs=1M 2>/dev/null
}
lvm pvcreate -q /dev/vda /dev/vdb
lvm vgcreate -q -s 1M the-group /dev/vda /dev/vdb
lvm lvcreate -q -y -Wn -Zn -n the-root -l 20 the-group /dev/vda
lvm lvcreate -q -y -Wn -Zn -n striped -i 2 -l 20 the-group
lvm lvcreate -q -y -Wn -Zn -n disk -l 12 the-group
lvm lvcreate -q -y --type thin-pool -Zn -l 30 -n pool the-group /dev/vda
lvm lvcreate -q -y -Wn -V 30M --thinpool pool -n thin the-group
dd if=/dev/vdl of=/dev/mapper/the--group-disk bs=1M 2>/dev/null
set -- --run --metadata=1.2 --assume-clean
mdadm -q --create /dev/md0 $@ --name=striped --level=0 --raid-devices=2 /dev/vdc1 /dev/vdc2
mdadm -q --create /dev/md1 $@ --name=array --level=1 --raid-devices=2 /dev/vdc3 /dev/vdc4
mdadm -q --create /dev/md5 $@ --name=five --level=5 --raid-devices=3 /dev/vdc5 /dev/vdc6 /dev/vdc7
mdadm -q --create /dev/md10 $@ --name=ten --level=10 --raid-devices=4 /dev/vdc8 /dev/vdc9 /dev/vdc10 /dev/vdc11
echo -n "let me in" | cryptsetup open --key-file=- /dev/vdd clear1
echo -n "let me in" | cryptsetup open --key-file=- /dev/vde clear2
lvm pvcreate -q /dev/mapper/clear2
lvm vgcreate -q -s 1M secret /dev/mapper/clear2
lvm lvcreate -q -y -Wn -Zn -n root -l 20 secret
for d in /dev/mapper/the--group-the--root /dev/mapper/the--group-striped /dev/mapper/the--group-thin \
	/dev/md0 /dev/md1 /dev/md5 /dev/md10 /dev/mapper/clear1 /dev/mapper/secret-root; do
	put $d
done
lvm vgchange -q -an the-group secret
cryptsetup close clear1
cryptsetup close clear2
for d in 0 1 5 10; do mdadm -q --stop /dev/md$d; done
mdadm -q --zero-superblock /dev/vdc6 # one of three is lost
for d in exfat:i vfat:j udf:k; do
	mount -t ${d%:*} /dev/vd${d#*:} /m
	files /m $d
	umount /m
done
mount -t xfs /dev/vdf /x
mount -t btrfs -o compress-force=zstd /dev/vdg /b
mount -t ext4 /dev/vdh /j
btrfs -q subvolume create /b/sub
for d in /x /b/sub /j; do
	files $d $d
	unix $d
done
btrfs -q subvolume snapshot -r /b/sub /b/deep-snapshot
echo later >/b/sub/file
sync
for d in /x /j; do
	rm $d/empty
	echo "written last" >$d/last
	sync
done
echo "written last" | dd of=/b/sub/last conv=fsync 2>/dev/null
`

// makeDisks makes the images of a snapshot.
func makeDisks(t *testing.T) []Disk {
	t.Helper()
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	if err := errors.Join(os.MkdirAll(tree+"/etc/deep", 0o755), os.WriteFile(tree+"/etc/hosts", []byte("hello\n"), 0o640),
		os.Link(tree+"/etc/hosts", tree+"/etc/again"), os.Symlink("hosts", tree+"/etc/link"), os.WriteFile(tree+"/etc/\xff\n", nil, 0o600),
		os.WriteFile(tree+"/big", bytes.Repeat([]byte("0123456789abcdef"), 100_000), 0o644), syscall.Mkfifo(tree+"/pipe", 0o600)); err != nil {
		t.Fatal(err)
	}
	sparse(t, tree+"/hole", 40)
	names := []string{"disk", "bare", "iso", "squashfs", "erofs"}
	bare := sparse(t, dir+"/bare", 32)
	tool(t, "", "mke2fs", "-q", "-t", "ext4", "-d", tree, bare)
	disk := sparse(t, dir+"/disk", 64)
	tool(t, "label: gpt\nsize=32M, name=root\nsize=4M, name=swap\nsize=1M, name=\"BIOS boot\"\n", "sfdisk", "-q", disk)
	tool(t, "", "dd", "if="+bare, "of="+disk, "bs=1M", "seek=1", "conv=notrunc")
	swap := sparse(t, dir+"/swap", 4)
	tool(t, "", "mkswap", swap)
	tool(t, "", "dd", "if="+swap, "of="+disk, "bs=1M", "seek=33", "conv=notrunc")
	tool(t, "", "genisoimage", "-quiet", "-R", "-o", dir+"/iso", tree+"/etc")
	tool(t, "", "mksquashfs", tree, dir+"/squashfs", "-quiet", "-no-progress")
	tool(t, "", "mkfs.erofs", "--quiet", dir+"/erofs", tree)
	var fill []string
	for _, d := range testDisks {
		f := sparse(t, filepath.Join(dir, d.name), d.mib)
		switch {
		case d.name == "arrays":
			tool(t, "label: gpt\n"+strings.Repeat("size=16M\n", 11), append(d.make, f)...)
		case d.name == "inner":
			tool(t, "label: dos\nstart=2048, size=8M\n", "sfdisk", "-q", f)
			tool(t, "", "mke2fs", "-q", "-F", "-t", "ext4", "-d", tree+"/etc", "-E", "offset=1048576", f, "8M")
		case d.name == "proto":
			tool(t, "", append(d.make, tree+"/etc", f)...)
		case d.make != nil:
			tool(t, passphrase, append(d.make, f)...)
		}
		if d.name == "ntfs" {
			tool(t, "", "ntfscp", "-q", f, tree+"/big", "big")
		}
		if d.filled {
			fill = append(fill, f)
		}
		if d.name != "inner" && d.name != "proto" {
			names = append(names, d.name)
		}
	}
	fillDisks(t, fill)
	var all []Disk
	for _, n := range names {
		img, err := image.OpenFile(filepath.Join(dir, n), image.FileOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = img.Close() })
		all = append(all, Disk{n + ".img.fidx", img})
	}
	return all
}

func fillDisks(t *testing.T, files []string) {
	t.Helper()
	var drives []appliance.Drive
	for _, f := range files {
		drives = append(drives, appliance.Drive{Path: f})
	}
	var more []appliance.File
	libgcc, err := filepath.Glob("/lib/*/libgcc_s.so.1") // which threads load when they end
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range libgcc {
		more = append(more, appliance.File{Name: f, From: f})
	}
	guest := appliancetest.Start(t, appliancetest.Spec{
		Modules: []string{"ext4", "xfs", "btrfs", "vfat", "exfat", "udf", "nls_utf8", "nls_cp437", "nls_ascii", "nls_iso8859-1", "dm-mod", "dm-thin-pool", "raid0", "raid1", "raid10", "raid456", "dm-crypt", "xts", "aes_generic"},
		Drives:  drives, Files: more,
		Tools: []string{"lvm", "mdadm", "cryptsetup", "btrfs", "sh", "cat", "mkdir", "mount", "umount", "dd", "ln", "rm", "head", "tr", "mkfifo", "mknod", "chmod", "chown", "setfattr", "sync"},
	})
	var out bytes.Buffer
	r, err := guest.Run(t.Context(), appliance.Cmd{Args: []string{"sh", "-c", fillVolumes}, Stdout: &out, Stderr: &out})
	if err = errors.Join(err, r.Err(), guest.Close()); err != nil { // no Shutdown: journals are full
		t.Fatalf("%v\n%s", err, out.String())
	}
}
