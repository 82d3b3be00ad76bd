package guest_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/appliance"
	"github.com/holdfast-backup/holdfast/internal/appliance/appliancetest"
	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/lvm"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// makeVolumes makes logical volumes of all kinds and says what is in them.
const makeVolumes = `
export LVM_SYSTEM_DIR=/tmp/lvm LVM_SUPPRESS_FD_WARNINGS=1
mkdir -p /tmp/lvm /run/lock/lvm
cat >/tmp/lvm/lvm.conf <<END
devices { scan_lvs=0 use_devicesfile=0 }
backup { backup=0 archive=0 }
activation { udev_sync=0 udev_rules=0 verify_udev_operations=0 monitoring=0 raid_region_size=64 }
global { use_lvmpolld=0 thin_check_executable="" }
END
set -e
exec 3>&1 1>&2
lvm pvcreate -q --metadatasize 64k /dev/vda # so small that its texts go around
lvm pvcreate -q --metadatacopies 0 /dev/vdb
lvm pvcreate -q /dev/vdc
lvm vgcreate -q -s 1M group /dev/vda /dev/vdb /dev/vdc
make() { n=$1 how=$2; shift 2; lvm lvcreate -q -y -Wn $how -n $n group "$@"; }
fill() { for v in "$@"; do dd if=/dev/urandom of=/dev/group/$v bs=64k 2>/dev/null || true; done; }
make linear "-l 30" /dev/vdb
make spanning "-l 80" /dev/vda:0-29 /dev/vdc:0-69
make striped "-i 3 -I 16k -l 36"
make two-stripes "-i 2 -I 128k -l 20"
lvm lvextend -q -l +10 group/linear /dev/vdc
make mirror "--type mirror -m 1 --mirrorlog core -l 10"
make raid1 "--type raid1 -m 1 -l 12"
make raid0 "--type raid0 -i 2 -I 64k -l 16"
make origin "-l 12"
make raid5 "--type raid5 -i 2 -l 8"
fill linear spanning striped two-stripes mirror raid1 raid0 origin raid5
lvm lvcreate -q -y -s -l 6 -n snap group/origin
dd if=/dev/urandom of=/dev/group/origin bs=64k count=20 conv=notrunc 2>/dev/null
while lvm lvs --noheadings -o copy_percent group/raid1 group/raid5 group/mirror | grep -v 100.00; do sleep 1; done
lvm lvcreate -q -y --type thin-pool -l 24 -c 64k -n pool group
lvm lvcreate -q -y -V 200M -T -n thin group/pool
for at in 0 1 3 17 100 2000 3199; do
	dd if=/dev/urandom of=/dev/group/thin bs=64k seek=$at count=1 conv=notrunc 2>/dev/null
done
dd if=/dev/urandom of=/dev/group/thin bs=64k seek=1000 count=100 conv=notrunc 2>/dev/null
lvm lvcreate -q -y -s -K -kn -n thinsnap group/thin
dd if=/dev/urandom of=/dev/group/thin bs=4k seek=16100 count=300 conv=notrunc 2>/dev/null
dd if=/dev/urandom of=/dev/group/thinsnap bs=64k seek=2500 count=1 conv=notrunc 2>/dev/null
lvm lvcreate -q -y -V 64M -T -n empty group/pool
sync
for v in linear spanning striped two-stripes mirror raid1 raid0 raid5 origin thin thinsnap empty; do
	echo $v $(sha256sum </dev/group/$v) >&3
done
lvm vgchange -q -an group
`

// Logical volumes of a kernel that has device-mapper, read from the disks that
// it left behind.
func TestLogicalVolumesHoldWhatTheKernelShowed(t *testing.T) {
	dir := t.TempDir()
	var drives []appliance.Drive
	for _, name := range []string{"a", "b", "c"} {
		disk := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(disk, nil, 0o600), os.Truncate(disk, 160*mib)); err != nil {
			t.Fatal(err)
		}
		drives = append(drives, appliance.Drive{Path: disk})
	}
	vm := appliancetest.Start(t, appliancetest.Spec{
		Modules: []string{"dm-mod", "dm-mirror", "dm-raid", "raid1", "raid0", "raid456", "dm-snapshot", "dm-thin-pool"},
		Tools:   []string{"lvm", "sh", "dd", "cat", "mkdir", "sleep", "sync", "sha256sum", "grep"},
		Drives:  drives, MemoryMB: 512,
	})
	limit, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var out, serr bytes.Buffer
	r, err := vm.Run(limit, appliance.Cmd{Args: []string{"sh", "-c", makeVolumes}, Stdout: &out, Stderr: &serr})
	if err = errors.Join(err, r.Err()); err != nil {
		t.Fatalf("%v\n%s", err, serr.String())
	}
	if err := vm.Close(); err != nil {
		t.Fatal(err)
	}
	group := assemble(t, drives)
	if group.Notices != nil || len(group.Logical) != 13 {
		t.Fatalf("%+v", group)
	}
	seen := 0
	for line := range strings.Lines(out.String()) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		seen++
		img, err := group.Open(f[0])
		if err != nil {
			t.Errorf("%s: %v", f[0], err)
			continue
		}
		h := sha256.New()
		if _, err := io.Copy(h, io.NewSectionReader(img, 0, img.Size())); err != nil {
			t.Errorf("%s: %v", f[0], err)
		}
		if got := hex.EncodeToString(h.Sum(nil)); got != f[1] {
			t.Errorf("%s: other bytes than the kernel showed", f[0])
		}
	}
	if seen != 12 {
		t.Fatalf("%d volumes: %s", seen, out.String())
	}
	_, err = group.Open("snap")
	if u, ok := errors.AsType[*fsread.UnsupportedError](err); !ok || !strings.Contains(u.What, "a snapshot of origin") {
		t.Errorf("snap: %v", err)
	}
	withoutADisk(t, drives)
}

// withoutADisk opens what does not need the second disk.
func withoutADisk(t *testing.T, drives []appliance.Drive) {
	group := assemble(t, []appliance.Drive{drives[0], drives[2]})
	if len(group.Missing()) != 1 || len(group.Notices) != 1 {
		t.Errorf("missing %q, notices %q", group.Missing(), group.Notices)
	}
	for name, ok := range map[string]bool{"spanning": true, "linear": false, "striped": false} {
		_, err := group.Open(name)
		if _, missing := errors.AsType[*lvm.MissingError](err); missing == ok || ok && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func assemble(t *testing.T, drives []appliance.Drive) *lvm.Group {
	t.Helper()
	var all []*lvm.Volume
	for _, d := range drives {
		f, err := image.OpenFile(d.Path, image.FileOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		v, err := lvm.Read(f)
		if err != nil || v.Problem != nil {
			t.Fatalf("%v, %v", err, v)
		}
		all = append(all, v)
	}
	groups, rest := lvm.Assemble(all)
	if len(groups) != 1 || len(rest) != 0 || groups[0].Name != "group" {
		t.Fatalf("%+v, %v", groups, rest)
	}
	return groups[0]
}
