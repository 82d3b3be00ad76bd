package lvm

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/appliance"
	"github.com/holdfast-backup/holdfast/internal/appliance/appliancetest"
	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
	"github.com/holdfast-backup/holdfast/internal/image"
)

var update = flag.Bool("update", false, "make testdata/raid.gz anew, in a virtual machine")

const (
	raidVolumes = 6
	raidSlot    = 6 << 20 // of the disk, for each physical volume
	raidBlock   = 4096
)

// raids are logical volumes of a RAID, with the options that lvcreate made them with.
var raids = []struct{ name, options string }{
	{"four", "--type raid4 -i 3"},
	{"five", "--type raid5 -i 3"},
	{"fiveasymmetric", "--type raid5_ra -i 2"},
	{"fivelast", "--type raid5_n -i 4"},
	{"six", "--type raid6 -i 3"},
	{"sixnext", "--type raid6_nc -i 4"},
	{"ten", "--type raid10 -i 2 -m 1"},
	{"tenofthree", "--type raid10 -i 3 -m 1"},
}

const makeRaids = `
set -e
export LVM_SYSTEM_DIR=/tmp/lvm LVM_SUPPRESS_FD_WARNINGS=1 DM_DISABLE_UDEV=1
mkdir -p /tmp/lvm /run/lock/lvm
cat >/tmp/lvm/lvm.conf <<END
devices { use_devicesfile=0 global_filter=["a|^/dev/loop|","r|.*|"] }
backup { backup=0 archive=0 }
activation { udev_sync=0 udev_rules=0 verify_udev_operations=0 monitoring=0 }
global { use_lvmpolld=0 }
END
all=
for i in 0 1 2 3 4 5; do
	all="$all $(losetup --show -f -o $((i * 6291456)) --sizelimit 6291456 /dev/vda)"
done
lvm vgcreate -q -s 64k --metadatasize 192k --dataalignment 64k raids $all
while read -r name options; do
	lvm lvcreate -q -y -Wn -Zn -n $name $options -I 4k -l 12 raids
	dd if=/dev/vdb of=/dev/raids/$name bs=4096 count=$(($(blockdev --getsize64 /dev/raids/$name) / 4096)) conv=fsync 2>/dev/null || \
		dd if=/dev/vdb of=/dev/mapper/raids-$name bs=4096 count=$(($(blockdev --getsize64 /dev/mapper/raids-$name) / 4096)) conv=fsync
done
sleep 5
lvm lvs -a -o name,sync_percent,raid_sync_action raids
lvm vgchange -q -an raids
losetup -d $all
sync
`

func raidPattern(b []byte, number int64) {
	clear(b)
	copy(b, fmt.Sprintf("block %d\n", number))
}

// makeVolumes makes what is in testdata, which LVM makes and Linux 6.1 writes in a guest.
func makeVolumes(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	var lines strings.Builder
	for _, r := range raids {
		fmt.Fprintf(&lines, "%s %s\n", r.name, r.options)
	}
	blocks := make([]byte, 4<<20)
	for i := 0; i < len(blocks); i += raidBlock {
		raidPattern(blocks[i:i+raidBlock], int64(i/raidBlock))
	}
	disk := filepath.Join(dir, "disk")
	if err := errors.Join(os.WriteFile(disk, nil, 0o600), os.Truncate(disk, raidVolumes*raidSlot), os.WriteFile(dir+"/pattern", blocks, 0o600)); err != nil {
		t.Fatal(err)
	}
	guest := appliancetest.Start(t, appliancetest.Spec{
		Modules: []string{"loop", "dm-mod", "dm-raid", "raid10", "raid456"},
		Drives:  []appliance.Drive{{Path: disk}, {Path: dir + "/pattern"}},
		Tools:   []string{"lvm", "losetup", "blockdev", "dd", "sh", "cat", "mkdir", "sync", "sleep"},
	})
	var out bytes.Buffer
	r, err := guest.Run(t.Context(), appliance.Cmd{Args: []string{"sh", "-c", makeRaids}, Stdin: strings.NewReader(lines.String()), Stdout: &out, Stderr: &out})
	if err = errors.Join(err, r.Err(), guest.Shutdown(t.Context())); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	t.Log(out.String())
	fsreadtest.SaveSparse(t, disk, filepath.Join("testdata", "raid.gz"))
}

// raidGroup is the group without some of its physical volumes.
func raidGroup(t *testing.T, without ...int) *Group {
	t.Helper()
	disk := fsreadtest.LoadSparse(t, filepath.Join("testdata", "raid.gz"))
	var all []*Volume
next:
	for i := range raidVolumes {
		for _, w := range without {
			if w == i {
				continue next
			}
		}
		img, err := image.NewSection(disk, int64(i)*raidSlot, raidSlot)
		if err != nil {
			t.Fatal(err)
		}
		v, err := Read(img)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	groups, rest := Assemble(all)
	if len(groups) != 1 || len(rest) > 0 {
		t.Fatalf("%d groups, %v", len(groups), rest)
	}
	return groups[0]
}

func checkRaid(t *testing.T, name string, img image.Image) {
	t.Helper()
	if img.Size() < 12*64<<10 {
		t.Errorf("%s has %d bytes", name, img.Size())
	}
	got, want := make([]byte, raidBlock), make([]byte, raidBlock)
	for n := range img.Size() / raidBlock {
		raidPattern(want, n)
		if _, err := img.ReadAt(got, n*raidBlock); err != nil && !errors.Is(err, io.EOF) || !bytes.Equal(got, want) {
			t.Fatalf("%s: block %d is %.20q, %v", name, n, got, err)
		}
	}
}

func TestRAIDsAreReadAsLVMWroteThem(t *testing.T) {
	if *update {
		makeVolumes(t)
	}
	g := raidGroup(t)
	if len(g.Logical) != len(raids) {
		t.Errorf("%+v", g.Logical)
	}
	for _, r := range raids {
		img, err := g.Open(r.name)
		if err != nil {
			t.Errorf("%s: %v", r.name, err)
			continue
		}
		checkRaid(t, r.name, img)
	}
}

func TestRAIDsAreReadWithoutALeg(t *testing.T) {
	for gone := range raidVolumes {
		g := raidGroup(t, gone)
		for _, r := range raids {
			img, err := g.Open(r.name)
			if err != nil {
				t.Errorf("%s without volume %d: %v", r.name, gone, err)
				continue
			}
			checkRaid(t, r.name, img)
		}
	}
	g := raidGroup(t, 0, 1)
	for _, r := range raids {
		img, err := g.Open(r.name)
		u := &fsread.UnsupportedError{}
		if _, lack := errors.AsType[*MissingError](err); err != nil && !lack && !errors.As(err, &u) {
			t.Errorf("%s without two volumes: %v", r.name, err)
		}
		if err == nil {
			checkRaid(t, r.name, img) // on others, or with copies elsewhere
		}
	}
}
