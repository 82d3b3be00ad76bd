package detect_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/detect"
	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
	"github.com/holdfast-backup/holdfast/internal/image"
)

const mib = 1 << 20

type mem struct{ *bytes.Reader }

func look(t *testing.T, img image.Image) detect.Finding {
	t.Helper()
	f, err := detect.Look(img)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestWhatToolsMakeIsFoundAsBlkidFindsIt(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		want detect.Finding
		make []string
	}{
		{detect.Finding{Class: detect.FileSystem, Type: "ext4"}, []string{"mkfs.ext4", "-q"}},
		{detect.Finding{Class: detect.FileSystem, Type: "xfs"}, []string{"mkfs.xfs", "-q"}},
		{detect.Finding{Class: detect.FileSystem, Type: "btrfs"}, []string{"mkfs.btrfs", "-q"}},
		{detect.Finding{Class: detect.FileSystem, Type: "vfat"}, []string{"mkfs.vfat"}},
		{detect.Finding{Class: detect.FileSystem, Type: "exfat"}, []string{"mkfs.exfat"}},
		{detect.Finding{Class: detect.FileSystem, Type: "ntfs"}, []string{"mkfs.ntfs", "-q", "-F", "-f"}},
		{detect.Finding{Class: detect.FileSystem, Type: "squashfs"}, []string{"mksquashfs", dir}},
		{detect.Finding{Class: detect.Swap, Type: "swap"}, []string{"mkswap"}},
		{detect.Finding{Class: detect.Swap, Type: "swap"}, []string{"mkswap", "-p", "16384"}},
	} {
		img := fsreadtest.Make(t, 400*mib)
		if tc.make[0] == "mksquashfs" {
			fsreadtest.Run(t, tc.make[0], tc.make[1], img, "-quiet", "-noappend")
		} else {
			fsreadtest.Run(t, tc.make[0], append(tc.make[1:], img)...)
		}
		if got := look(t, fsreadtest.OpenFile(t, img)); got != tc.want {
			t.Errorf("%q: %+v", tc.make, got)
		}
		if kind := strings.TrimSpace(fsreadtest.Run(t, "blkid", "-p", "-o", "value", "-s", "TYPE", img)); kind != tc.want.Type {
			t.Errorf("%q: blkid says %s", tc.make, kind)
		}
	}
}

func TestSignatures(t *testing.T) {
	for _, tc := range []struct {
		kind  string
		class detect.Class
		off   int
		bytes string
	}{
		{"crypto_LUKS", detect.Member, 0, "LUKS\xba\xbe\x00\x02"},
		{"BitLocker", detect.Member, 3, "-FVE-FS-"},
		{"LVM2_member", detect.Member, 512, "LABELONE\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x20\x00\x00\x00LVM2 001"},
		{"iso9660", detect.FileSystem, 0x8001, "CD001"},
		{"ReFS", detect.FileSystem, 3, "ReFS\x00\x00\x00\x00"},
		{"apfs", detect.FileSystem, 0x20, "NXSB"},
		{"reiserfs", detect.FileSystem, 0x10034, "ReIsEr2Fs"},
	} {
		b := make([]byte, mib)
		copy(b[tc.off:], tc.bytes)
		if got := look(t, mem{bytes.NewReader(b)}); got != (detect.Finding{Class: tc.class, Type: tc.kind}) {
			t.Errorf("%s: %+v", tc.kind, got)
		}
	}
}

func TestImageWithoutSignaturesIsNothing(t *testing.T) {
	for _, size := range []int{0, 1, 511, 512, 4096, 65536, 100001, 3 * mib} {
		if got := look(t, mem{bytes.NewReader(make([]byte, size))}); got != (detect.Finding{}) {
			t.Errorf("%d zeros: %+v", size, got)
		}
	}
}

// array writes a superblock of md into b.
func array(b []byte, minor int) {
	le := binary.LittleEndian
	at := 0
	switch minor {
	case 0:
		at = (len(b) - 8192) &^ 4095
	case 2:
		at = 4096
	case 90:
		at = len(b)&^65535 - 65536
		le.PutUint32(b[at:], 0xa92b4efc)
		le.PutUint32(b[at+4:], 0)
		return
	}
	le.PutUint32(b[at:], 0xa92b4efc)
	le.PutUint32(b[at+4:], 1)
	le.PutUint64(b[at+144:], uint64(at/512))
}

// What a member holds begins at its start for 1.0 and 0.90, and is not to be read
// as if it were all.
func TestMembersOfArraysAreNotTakenForWhatTheyHold(t *testing.T) {
	fs, err := os.ReadFile(fsreadtest.Make(t, 8*mib, "mkfs.ext4", "-q"))
	if err != nil {
		t.Fatal(err)
	}
	for _, minor := range []int{0, 1, 2, 90} {
		b := append(bytes.Clone(fs), make([]byte, mib+123*512)...)
		array(b, minor)
		if got := look(t, mem{bytes.NewReader(b)}); got.Class != detect.Member || got.Type != "linux_raid_member" {
			t.Errorf("superblock 1.%d: %+v", minor, got)
		}
	}
}

func sfdisk(t *testing.T, script string) []byte {
	t.Helper()
	img := fsreadtest.Make(t, 16*mib)
	cmd := exec.Command("/usr/sbin/sfdisk", "-q", img)
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		fsreadtest.Lack(t, "sfdisk: "+string(out))
	}
	b, err := os.ReadFile(img)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTables(t *testing.T) {
	dos, gpt := sfdisk(t, "label: dos\n2048,,83\n"), sfdisk(t, "label: gpt\n2048,,L\n")
	damaged := bytes.Clone(gpt)
	clear(damaged[512:1024])
	clear(damaged[len(damaged)-512:])
	array(dos, 90) // of its partition, which reaches to the end
	left := bytes.Clone(gpt)
	copy(left[0x10040:], "_BHRfS_M") // what was there before
	hybrid := bytes.Clone(dos)
	copy(hybrid[0x8001:], "CD001")
	for name, tc := range map[string]struct {
		disk []byte
		want detect.Finding
	}{
		"MBR":                  {dos, detect.Finding{Class: detect.Table, Type: "dos"}},
		"GPT":                  {gpt, detect.Finding{Class: detect.Table, Type: "gpt"}},
		"damaged GPT":          {damaged, detect.Finding{Class: detect.Table, Type: "gpt"}},
		"GPT over btrfs":       {left, detect.Finding{Class: detect.Table, Type: "gpt"}},
		"CD that boots as MBR": {hybrid, detect.Finding{Class: detect.FileSystem, Type: "iso9660"}},
	} {
		if got := look(t, mem{bytes.NewReader(tc.disk)}); got != tc.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestFileSystemsOpenOrAreRefusedByName(t *testing.T) {
	img := fsreadtest.OpenFile(t, fsreadtest.Make(t, 8*mib, "mkfs.ext2", "-q"))
	f, err := look(t, img).Open(img)
	if err != nil || f.About().Type != "ext2" {
		t.Fatalf("%v", err)
	}
	_, err = detect.Finding{Class: detect.FileSystem, Type: "jfs"}.Open(img)
	if u, ok := errors.AsType[*fsread.UnsupportedError](err); !ok || u.Layer != "jfs" {
		t.Errorf("jfs: %v", err)
	}
	for _, other := range []string{"exfat", "ntfs", "vfat", "xfs"} {
		if f, err := (detect.Finding{Class: detect.FileSystem, Type: other}).Open(img); f != nil || !errors.Is(err, fsread.ErrOther) {
			t.Errorf("%s: %v, %v", other, f, err)
		}
	}
}

func TestImageThatCannotBeReadIsNotNothing(t *testing.T) {
	for _, at := range []int64{0, 66 << 10, 4*mib - 64<<10} {
		bad := image.Faulty{Image: mem{bytes.NewReader(make([]byte, 4*mib))}, Bad: at, Length: 512, Err: syscall.EIO}
		if f, err := detect.Look(bad); !errors.Is(err, syscall.EIO) {
			t.Errorf("at %d: %+v, %v", at, f, err)
		}
	}
}
