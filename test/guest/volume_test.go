package guest_test

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/appliance"
	"github.com/holdfast-backup/holdfast/internal/appliance/appliancetest"
	"github.com/holdfast-backup/holdfast/internal/appliance/initramfs"
)

// Volumes need a kernel with device-mapper; dmsetup is the independent view. Everything
// is done without udev, as in a container, and what matters again with it.
func TestVolumes(t *testing.T) {
	vm := appliancetest.Start(t, appliancetest.Spec{
		Modules: []string{"loop", "dm-mod", "dm-snapshot"},
		Tools:   []string{"dmsetup", "udevadm", "losetup", "setpriv", "sh", "cat", "cmp", "dd", "head", "truncate", "readlink", "ls"},
		Files:   append(udevFiles(t), appliance.File{Name: "/usr/local/bin/holdfast", From: appliancetest.Build(t, module+"cmd/holdfast")}),
		Scratch: 512, MemoryMB: 768,
	})
	t.Logf("ready after %v", vm.Boot)
	vm.TestBinary(t, appliancetest.Tests{Package: module + "internal/kernel/dm"})
	vm.TestBinary(t, appliancetest.Tests{Package: module + "internal/volume", Run: "Live|EnsureOnReal|Claimed|Stale", Timeout: 3 * time.Minute})
	t.Run("holdfast volume", func(t *testing.T) { script(t, vm, volumesWithTheProgram) })
	t.Run("with udev", func(t *testing.T) {
		script(t, vm, "systemd-udevd --daemon && udevadm settle -t 30")
		script(t, vm, nodesByUdev)
		script(t, vm, "cd /test/volume && HOLDFAST_GUEST=1 ./volume.test -test.run 'LiveMappedVolumeIs|LiveThrowAwayMappingF' -test.v -test.timeout 1m")
	})
}

// udevFiles are udev's daemon and Debian's rules for device-mapper.
func udevFiles(t *testing.T) (list []appliance.File) {
	t.Helper()
	udevadm, err := initramfs.FindTool("udevadm") // the daemon is the same program
	if err != nil {
		appliancetest.Lack(t, err)
	}
	list = append(list, appliance.File{Name: "/usr/bin/systemd-udevd", From: udevadm})
	rules, err := filepath.Glob("/usr/lib/udev/rules.d/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules {
		switch name := filepath.Base(r); {
		case strings.HasPrefix(name, "50-udev"), strings.HasPrefix(name, "60-block"), strings.HasPrefix(name, "60-persistent-storage"),
			strings.Contains(name, "-dm"):
			list = append(list, appliance.File{Name: r, From: r})
		}
	}
	return list
}

// script runs commands of a shell in the guest, the first that fails ends it.
func script(t *testing.T, vm *appliancetest.VM, text string) {
	t.Helper()
	var out bytes.Buffer
	r, err := vm.Run(ctx(t), appliance.Cmd{
		Args: []string{"sh", "-ex", "-c", text}, Dir: "/tmp", Env: []string{"HOLDFAST_REPOSITORY=/tmp/repo"}, Stdout: &out, Stderr: &out,
	})
	if err != nil || r.Err() != nil {
		t.Fatalf("%v, %v:\n%s", err, r.Err(), out.String())
	}
}

const volumesWithTheProgram = `
says() { while read -r l; do case "$l" in *$1*) cat >/dev/null; return 0;; esac; done; return 1; }
exits() { want=$1; shift; set +e; "$@" >said 2>&1; got=$?; set -e; cat said; test $got = $want; }
holdfast init --lazy repo
head -c 5M /dev/urandom >a.img
cp() { cat "$1" >"$2"; }
cp a.img b.img
dd if=/dev/urandom of=b.img bs=64k seek=70 count=3 conv=notrunc
holdfast backup disk.img:a.img --backup-type vm --backup-id 1 --backup-time 2026-01-01T00:00:00Z
holdfast backup disk.img:b.img --backup-type vm --backup-id 1 --backup-time 2026-01-02T00:00:00Z
truncate -s 6M dev
dev=$(losetup --find --show dev)
vol=virtlet-dm-${dev##*/}

# A restore fills and maps; the second one keeps.
holdfast restore vm/1/2026-01-01T00:00:00Z disk.img --volume $dev | says "mapped as /dev/mapper/$vol"
cmp -n 5242880 /dev/mapper/$vol a.img
dmsetup table $vol | says "0 12287 linear 7:"
holdfast restore vm/1/2026-01-01T00:00:00Z disk.img --volume $dev | says "kept as it is"
holdfast volume list | says "$vol *$dev"
holdfast volume list --output-format json | says '"snapshot":"vm/1/2026-01-01T00:00:00Z"'
exits 11 holdfast restore vm/1 disk.img --volume $dev
exits 11 holdfast restore vm/1 disk.img --volume /dev/loop1 --map-as $vol
says "is the name of another volume" <said
exits 11 holdfast restore vm/1 disk.img --volume $dev
says "is part of /dev/mapper/$vol" <said
exits 11 holdfast volume verify $dev

# A guest writes, and is in the way.
echo guest >/dev/mapper/$vol
exec 3</dev/mapper/$vol
exits 11 holdfast volume unmap $vol
says "open in process" <said
exec 3<&-
holdfast volume unmap $dev | says "unmapped $vol"
exits 10 holdfast volume unmap $vol
exits 0 holdfast volume verify $dev
says "a guest may have written to it" <said
holdfast restore vm/1/2026-01-01T00:00:00Z disk.img --volume $dev --no-map | says "kept as it is"
holdfast volume verify $dev | says "differs"

# The next day, and back to what the snapshot has.
holdfast restore vm/1 disk.img --volume $dev --no-map | says "filled"
holdfast volume verify $dev | says "all equal"

# Thrown away.
holdfast volume map $dev virtlet-dm-try --throw-away --scratch-dir /tmp
echo junk >/dev/mapper/virtlet-dm-try
holdfast volume list | says "throw-away"
holdfast volume unmap virtlet-dm-try
holdfast volume verify $dev | says "all equal"
holdfast volume list | says "No volume is mapped."
dmsetup ls | says "No devices found"

# Sentences for who is not root, and for names of others.
nobody="setpriv --reuid 65534 --regid 65534 --clear-groups holdfast"
exits 1 $nobody volume header $dev
says "no permission to use $dev: block devices are for root" <said
exits 1 $nobody volume map $dev virtlet-dm-x
says "device-mapper is for root" <said
exits 1 $nobody volume list
says "device-mapper is for root" <said
exits 2 holdfast volume map $dev vg0-root
HOLDFAST_VOLUME_PREFIX=pod- holdfast volume map $dev pod-x --read-only
holdfast volume list | says "No volume is mapped."
exits 10 holdfast volume unmap pod-x
holdfast volume unmap pod-x --prefix pod-
losetup -d $dev
`

const nodesByUdev = `
truncate -s 1M udev
dev=$(losetup --find --show udev)
holdfast volume ensure $dev --digest cc292b92ce7f10f2e4f727ecdf4b12528127c51b6ddf6058e213674603190d06
holdfast volume map $dev virtlet-dm-udev
readlink /dev/mapper/virtlet-dm-udev # udev made it: else it is no link
udevadm settle -t 30
ls -l /dev/mapper /dev/disk/* || true
test ! -e /dev/disk/by-id/dm-name-virtlet-dm-udev # it was told not to look inside
holdfast volume unmap virtlet-dm-udev
test ! -L /dev/mapper/virtlet-dm-udev
losetup -d $dev
`
