package direct

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
)

// What disks are made of here, without the kernel: file systems by their own tools, and
// around them what makes a disk, a group or an array of them, byte by byte. Packages lvm and md
// are held against what LVM and the kernel wrote; here it is how volumes lie in each other.

const mib = 1 << 20

var le = binary.LittleEndian

// fileSystem is an ext4 of 1 MiB with one file that says where it is.
func fileSystem(t testing.TB, label string) []byte {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "etc", "name"), "this is "+label+"\n")
	if err := os.Symlink("name", filepath.Join(dir, "etc", "link")); err != nil {
		t.Fatal(err)
	}
	return read(t, fsreadtest.Make(t, mib, "mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-L", label, "-d", dir))
}

func write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// partitioned is a disk with a GPT, and a partition for each of what is given, from 1 MiB on.
func partitioned(t testing.TB, parts ...[]byte) []byte {
	t.Helper()
	table, at, size := "label: gpt\n", mib, 2*mib
	for _, p := range parts {
		size += len(p)
	}
	b := make([]byte, size)
	for i, p := range parts {
		table += fmt.Sprintf("start=%d, size=%d, name=part%d\n", at/512, len(p)/512, i+1)
		copy(b[at:], p)
		at += len(p)
	}
	img := filepath.Join(t.TempDir(), "disk")
	write(t, img, string(b))
	cmd := exec.Command("/usr/sbin/sfdisk", "-q", img)
	cmd.Stdin = strings.NewReader(table)
	if out, err := cmd.CombinedOutput(); err != nil {
		fsreadtest.Lack(t, fmt.Sprintf("sfdisk: %v %s", err, out))
	}
	return read(t, img)
}

const passphrase = "let me in"

// encrypted is LUKS 2 around something.
func encrypted(t testing.TB, b []byte) []byte {
	t.Helper()
	dir := t.TempDir()
	write(t, dir+"/volume", string(b)+strings.Repeat("\x00", 32*mib))
	write(t, dir+"/pass", passphrase)
	fsreadtest.Run(t, "cryptsetup", "reencrypt", "--encrypt", "-q", "--type=luks2", "--reduce-device-size=32M", "--force-offline-reencrypt",
		"--disable-locks", "--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000", "--key-file="+dir+"/pass", dir+"/volume")
	return read(t, dir+"/volume")[:16*mib+len(b)]
}

// volumeGroup is a physical volume whose one logical volume holds something.
func volumeGroup(group string, b []byte) []byte {
	const dataAt, areaAt, areaSize = mib, 4096, 64 << 10
	id := strings.Repeat(group[:1], 32)
	dashed := id[:6] + "-" + id[6:10] + "-" + id[10:14] + "-" + id[14:18] + "-" + id[18:22] + "-" + id[22:26] + "-" + id[26:]
	text := fmt.Sprintf(`%s { id = "group %s" seqno = 1 format = "lvm2" status = ["READ"] extent_size = 128
physical_volumes { pv0 { id = "%s" device = "/dev/x" pe_start = %d pe_count = %d } }
logical_volumes { root { id = "root" status = ["READ", "VISIBLE"] segment1 {
start_extent = 0 extent_count = %[5]d type = "striped" stripe_count = 1 stripes = [ "pv0", 0 ] } } } }
contents = "Text Format Volume Group"
version = 1
`, group, group, dashed, dataAt/512, len(b)/(64<<10))
	sum := func(b []byte) uint32 { return ^crc32.Update(^uint32(0xf597a6cf), crc32.IEEETable, b) }
	out := append(make([]byte, dataAt), b...)
	label := out[512:1024]
	copy(label, "LABELONE")
	le.PutUint64(label[8:], 1)
	le.PutUint32(label[20:], 32)
	copy(label[24:], "LVM2 001"+id)
	le.PutUint64(label[64:], uint64(len(out)))
	le.PutUint64(label[72:], dataAt)
	le.PutUint64(label[104:], areaAt)
	le.PutUint64(label[112:], areaSize)
	le.PutUint32(label[16:], sum(label[20:]))
	area := out[areaAt : areaAt+areaSize]
	copy(area[4:], " LVM2 x[5A%r0N*>")
	le.PutUint32(area[20:], 1)
	le.PutUint64(area[24:], areaAt)
	le.PutUint64(area[32:], areaSize)
	le.PutUint64(area[40:], 512)
	le.PutUint64(area[48:], uint64(len(text)))
	le.PutUint32(area[56:], sum([]byte(text)))
	copy(area[512:], text)
	le.PutUint32(area, sum(area[4:512]))
	return out
}

// arrayOf is two members of a RAID 0 that holds something.
func arrayOf(name string, b []byte) (members [2][]byte) {
	const dataAt, chunk = mib, 64 << 10
	for i := range members {
		m := make([]byte, dataAt, dataAt+len(b)/2)
		for at := i * chunk; at < len(b); at += 2 * chunk {
			m = append(m, b[at:at+chunk]...)
		}
		s := m[4096:]
		le.PutUint32(s, 0xa92b4efc)
		le.PutUint32(s[4:], 1)
		copy(s[16:], strings.Repeat(name, 16)[:16])
		copy(s[32:], "somewhere:"+name)
		le.PutUint32(s[76:], 2)
		le.PutUint32(s[8:], 0x1000) // the layout is said
		le.PutUint32(s[88:], chunk/512)
		le.PutUint32(s[92:], 2)
		le.PutUint64(s[128:], dataAt/512)
		le.PutUint64(s[136:], uint64(len(m)-dataAt)/512)
		le.PutUint64(s[144:], 8)
		le.PutUint32(s[160:], uint32(i))
		le.PutUint32(s[220:], 2)
		le.PutUint32(s[256:], 1<<16)
		var sum uint64
		for at := 0; at < 260; at += 4 {
			sum += uint64(le.Uint32(s[at:]))
		}
		le.PutUint32(s[216:], uint32(sum)+uint32(sum>>32))
		members[i] = m
	}
	return members
}

// disks name images in their order.
func disks(all ...[]byte) (out []Disk) {
	for i, b := range all {
		out = append(out, Disk{Archive: fmt.Sprintf("disk%d.img.fidx", i), Image: fsreadtest.Mem(bytes.Clone(b))})
	}
	return out
}
