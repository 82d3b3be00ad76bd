package md_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/appliance"
	"github.com/holdfast-backup/holdfast/internal/appliance/appliancetest"
	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
)

var update = flag.Bool("update", false, "make testdata/arrays.gz anew, in a virtual machine")

// script makes one array after the other: $1 has a line for each, with the sizes of its
// members and the options of mdadm.
const script = `
set -e
mkdir -p /run/mdadm
slot=0
i=0
while read -r sizes options; do
	members=
	k=0
	for size in $(echo $sizes | tr , ' '); do
		members="$members $(losetup --show -f -o $(((slot + k) * 2097152)) --sizelimit $size /dev/vda)"
		k=$((k + 1))
	done
	mdadm --create /dev/md$i --name=sample$i --homehost=somewhere --run --assume-clean --raid-devices=$k $options $members
	dd if=/dev/vdb of=/dev/md$i bs=4096 count=$(($(blockdev --getsize64 /dev/md$i) / 4096)) conv=fsync
	mdadm --stop /dev/md$i
	losetup -d $members
	slot=$((slot + 5))
	i=$((i + 1))
done
sync
`

// makeSamples makes what is in testdata, which mdadm and the drivers of Linux 6.1 write in
// a guest.
func makeSamples(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	var lines strings.Builder
	for _, s := range samples {
		var sizes []string
		for k := range s.members {
			sizes = append(sizes, fmt.Sprint(slotSize-int64(k)*s.shrink))
		}
		fmt.Fprintf(&lines, "%s %s\n", strings.Join(sizes, ","), s.args)
	}
	blocks := make([]byte, 10<<20)
	for i := 0; i < len(blocks); i += block {
		pattern(blocks[i:i+block], int64(i/block))
	}
	members := filepath.Join(dir, "members")
	size := int64(len(samples)) * mostOf * slotSize
	if err := errors.Join(os.WriteFile(members, nil, 0o600), os.Truncate(members, size), os.WriteFile(dir+"/pattern", blocks, 0o600)); err != nil {
		t.Fatal(err)
	}
	guest := appliancetest.Start(t, appliancetest.Spec{
		Modules: []string{"loop", "linear", "raid0", "raid1", "raid10", "raid456"},
		Drives:  []appliance.Drive{{Path: members}, {Path: dir + "/pattern"}},
		Tools:   []string{"mdadm", "losetup", "blockdev", "dd", "sh", "tr", "mkdir", "sync"},
	})
	var out bytes.Buffer
	r, err := guest.Run(t.Context(), appliance.Cmd{Args: []string{"sh", "-c", script}, Stdin: strings.NewReader(lines.String()), Stdout: &out, Stderr: &out})
	if err = errors.Join(err, r.Err(), guest.Shutdown(t.Context())); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	fsreadtest.SaveSparse(t, members, filepath.Join("testdata", "arrays.gz"))
}
