package ptable_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
	"github.com/holdfast-backup/holdfast/internal/fsread/ptable"
)

const mib = 1 << 20

type mem struct{ *bytes.Reader }

func open(b []byte) mem { return mem{bytes.NewReader(b)} }

// sfdisk makes an image with a partition table. Of sectors that are not of 512
// bytes it hears from a loop device alone.
func sfdisk(t testing.TB, size int64, script string, sector int) string {
	t.Helper()
	img := fsreadtest.Make(t, size)
	device := img
	if sector != 512 {
		fsreadtest.Root(t)
		device = strings.TrimSpace(fsreadtest.Run(t, "losetup", "-f", "--show", "-b", fmt.Sprint(sector), img))
		defer fsreadtest.Run(t, "losetup", "-d", device)
	}
	path, err := exec.LookPath("sfdisk")
	if err != nil {
		path = "/usr/sbin/sfdisk"
	}
	cmd := exec.Command(path, "-q", "--no-reread", "--no-tell-kernel", device)
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v: %s", err, out)
	}
	return img
}

const sevenLogical = "label: dos\nlabel-id: 0x12345678\nstart=2048, size=4096, type=83, bootable\n" +
	"start=8192, size=90000, type=5\nsize=2048, type=7\nsize=2048, type=82\nsize=2048, type=8e\n" +
	"size=2048, type=83\nsize=2048, type=83\nsize=2048, type=c\nsize=2048, type=83\nsize=2048, type=fd\nsize=2048, type=83\n"

const gpt = "label: gpt\nlabel-id: 01234567-89AB-CDEF-0123-456789ABCDEF\n" +
	"size=4MiB, type=C12A7328-F81F-11D2-BA4B-00C04FD93B01, name=\"EFI System\"\n" +
	"size=8MiB, type=linux, name=\"r\u00f6\u00f6t \U0001f4be\"\n/dev/x7: size=2MiB, type=swap\n"

// What libblkid says, which numbers as the kernel does.
func TestTablesAreReadAsLibblkidReadsThem(t *testing.T) {
	for _, tc := range []struct {
		name   string
		script string
		sector int
	}{
		{"MBR", "label: dos\nlabel-id: 0xfedcba98\nsize=4MiB, type=83\nsize=4MiB, type=7, bootable\n", 512},
		{"MBR with a gap", "label: dos\n/dev/x3: size=4MiB, type=83\n/dev/x1: size=4MiB, type=da\n", 512},
		{"logical partitions", sevenLogical, 512},
		{"extended partition first", "label: dos\nstart=2048, size=60000, type=f\nsize=8192, type=83\nstart=4096, size=2048\nstart=8192, size=2048\n", 512},
		{"GPT", gpt, 512},
		{"GPT, sectors of 4096 bytes", gpt, 4096},
		{"GPT without partitions", "label: gpt\n", 512},
	} {
		t.Run(tc.name, func(t *testing.T) {
			img := sfdisk(t, 64*mib, tc.script, tc.sector)
			compare(t, img, tc.sector, 0)
		})
	}
}

// compare compares what is read with partx. want is the number of notices.
func compare(t *testing.T, img string, sector, notices int) *ptable.Table {
	t.Helper()
	table, err := ptable.Read(fsreadtest.OpenFile(t, img))
	if err != nil {
		t.Fatal(err)
	}
	if len(table.Notices) != notices || table.Sector != int64(sector) {
		t.Errorf("sectors of %d bytes, notices %q", table.Sector, table.Notices)
	}
	var got strings.Builder
	for _, p := range table.Partitions {
		fmt.Fprintf(&got, "%d|%d|%d|%s|%s|%s|\n", p.Number, p.Start/512, p.Size/512, p.Type, p.UUID, p.Name)
	}
	want := fsreadtest.Run(t, "partx", "-g", "-r", "-o", "NR,START,SECTORS,TYPE,UUID,NAME", "--sector-size", fmt.Sprint(sector), img)
	if w := partx(want); got.String() != w {
		t.Errorf("read:\n%spartx:\n%s", got.String(), w)
	}
	var id, kind string
	device := img
	if sector != 512 {
		device = strings.TrimSpace(fsreadtest.Run(t, "losetup", "-r", "-f", "--show", "-b", fmt.Sprint(sector), img))
		defer fsreadtest.Run(t, "losetup", "-d", device)
	}
	for line := range strings.Lines(fsreadtest.Run(t, "blkid", "-p", "-o", "export", device)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch k {
		case "PTUUID":
			id = v
		case "PTTYPE":
			kind = v
		}
	}
	if table.UUID != id || table.Kind != kind {
		t.Errorf("%s %s, blkid says %s %s", table.Kind, table.UUID, kind, id)
	}
	return table
}

// partx turns its output, with \x escapes and without extended partitions, into
// ours.
func partx(out string) string {
	var b strings.Builder
	for line := range strings.Lines(out) {
		f := strings.SplitN(strings.TrimRight(line, "\n"), " ", 6)
		for len(f) < 6 {
			f = append(f, "")
		}
		if f[3] == "0x5" || f[3] == "0xf" {
			continue
		}
		if strings.HasPrefix(f[3], "0x") {
			f[3] = fmt.Sprintf("0x%02s", f[3][2:])
		}
		name := []byte(f[5])
		for i := 0; i+3 < len(name); i++ {
			var c byte
			if name[i] == '\\' && name[i+1] == 'x' {
				if _, err := fmt.Sscanf(string(name[i+2:i+4]), "%02x", &c); err == nil {
					name = append(append(name[:i:i], c), name[i+4:]...)
				}
			}
		}
		f[5] = string(name)
		b.WriteString(strings.Join(f, "|") + "|\n")
	}
	return b.String()
}

func read(t *testing.T, img string) []byte {
	t.Helper()
	b, err := os.ReadFile(img)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGPTWithADamagedStartIsReadFromItsEnd(t *testing.T) {
	for _, sector := range []int{512, 4096} {
		whole := read(t, sfdisk(t, 64*mib, gpt, sector))
		want, err := ptable.Read(open(whole))
		if err != nil || len(want.Partitions) != 3 {
			t.Fatal(err)
		}
		for _, at := range []int{sector, sector + 20, sector + 48, sector + 90, 2*sector + 3, 2*sector + 128*6 + 40} {
			b := bytes.Clone(whole)
			b[at] ^= 1
			got, err := ptable.Read(open(b))
			if err != nil || len(got.Notices) != 1 || fmt.Sprint(got.Partitions) != fmt.Sprint(want.Partitions) || got.UUID != want.UUID {
				t.Fatalf("byte %d: %+v, %v", at, got, err)
			}
			b[len(b)-sector+16] ^= 1
			if _, err := ptable.Read(open(b)); !fsread.IsCorrupt(err) {
				t.Errorf("byte %d, and no whole table at the end: %v", at, err)
			}
		}
	}
}

func TestHybridDiskIsAGPTDisk(t *testing.T) {
	img := sfdisk(t, 64*mib, gpt, 512)
	fsreadtest.Run(t, "sgdisk", "-h", "1:2", img)
	got, err := ptable.Read(fsreadtest.OpenFile(t, img))
	if err != nil || got.Kind != ptable.GPT || len(got.Partitions) != 3 {
		t.Fatalf("%+v, %v", got, err)
	}
}

// A disk that once had a GPT and got an MBR after that.
func TestGPTWithoutItsProtectiveEntryDoesNotCount(t *testing.T) {
	b := read(t, sfdisk(t, 64*mib, gpt, 512))
	b[446+4] = 0x83
	got, err := ptable.Read(open(b))
	if err != nil || got.Kind != ptable.MBR || len(got.Partitions) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
}

func TestChainOfLogicalPartitionsEnds(t *testing.T) {
	whole := read(t, sfdisk(t, 64*mib, sevenLogical, 512))
	le := binary.LittleEndian
	links := []int{8192 * 512}
	for {
		next := le.Uint32(whole[links[len(links)-1]+446+16+8:])
		if next == 0 {
			break
		}
		links = append(links, (8192+int(next))*512)
	}
	if len(links) != 7 {
		t.Fatalf("%d links", len(links))
	}
	for _, tc := range []struct {
		name  string
		next  uint32 // of the sixth link
		parts int
		said  string
	}{
		{"at itself", uint32(links[5]/512 - 8192), 3 + 6, "leads back"},
		{"at the start", 0, 3 + 6, "leads back"},
		{"behind the end", 1 << 30, 3 + 6, "behind the end"},
		{"where nothing is", 70000, 3 + 6, "none of it"},
	} {
		b := bytes.Clone(whole)
		le.PutUint32(b[links[5]+446+16+8:], tc.next)
		got, err := ptable.Read(open(b))
		if err != nil || len(got.Partitions) != tc.parts || len(got.Notices) != 1 || !strings.Contains(got.Notices[0], tc.said) {
			t.Errorf("%s: %+v, %v", tc.name, got, err)
		}
	}
}

func TestLeftoversInAChainAreNoPartitions(t *testing.T) {
	whole := read(t, sfdisk(t, 64*mib, sevenLogical, 512))
	entry := whole[8192*512+446+2*16:]
	entry[4] = 0x83
	binary.LittleEndian.PutUint32(entry[8:], 100)
	for count, parts := range map[uint32]int{1 << 20: 10, 1000: 11} {
		binary.LittleEndian.PutUint32(entry[12:], count)
		if got, err := ptable.Read(open(whole)); err != nil || len(got.Partitions) != parts || got.Notices != nil {
			t.Errorf("%d sectors: %+v, %v", count, got, err)
		}
	}
}

func TestPartitionsBehindTheEndAreCutOrLeftOut(t *testing.T) {
	img := sfdisk(t, 64*mib, "label: dos\nstart=2048, size=40960\nstart=63488, size=40960\nstart=122880, size=2048\n", 512)
	if err := os.Truncate(img, 32*mib); err != nil {
		t.Fatal(err)
	}
	got, err := ptable.Read(fsreadtest.OpenFile(t, img))
	if err != nil || len(got.Partitions) != 2 || len(got.Notices) != 2 || got.Partitions[1].Size != mib {
		t.Fatalf("%+v, %v", got, err)
	}
}

func TestDisksWithoutATable(t *testing.T) {
	vfat := read(t, fsreadtest.Make(t, 8*mib, "mkfs.vfat"))
	for name, b := range map[string][]byte{"empty": nil, "short": make([]byte, 511), "zeros": make([]byte, 1<<16), "a file system": vfat} {
		if got, err := ptable.Read(open(b)); !errors.Is(err, fsread.ErrOther) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// Each change has four bytes: a place, in sectors that are used, and two bytes
// for it. Checksums are made right again, so that what they guard is reached.
func FuzzTable(f *testing.F) {
	var disks [][]byte
	for _, script := range []string{"label: dos\nsize=1MiB, type=83\nsize=6MiB, type=5\nsize=1MiB\nsize=1MiB\nsize=1MiB\n", gpt[:strings.Index(gpt, "size")] + "size=1MiB\nsize=1MiB\n"} {
		b, err := os.ReadFile(sfdisk(f, 8*mib, script, 512))
		if err != nil {
			f.Fatal(err)
		}
		disks = append(disks, b)
	}
	for which := range disks {
		f.Add(byte(which), []byte{0xbe, 1, 0, 0, 0xca, 1, 0xff, 0xff})
		f.Add(byte(which), []byte{80, 2, 1, 1})
		f.Add(byte(which), []byte{32, 4, 0xff, 0xff})
	}
	f.Fuzz(func(t *testing.T, which byte, changes []byte) {
		b := bytes.Clone(disks[int(which)%len(disks)])
		places := used(b)
		for ; len(changes) >= 4; changes = changes[4:] {
			at := int(binary.LittleEndian.Uint16(changes))
			at = places[at/512%len(places)] + at%512
			b[at] = changes[2]
			b[min(at+1, len(b)-1)] = changes[3]
		}
		seal(b, 512)
		table, err := ptable.Read(open(b))
		if err != nil {
			return
		}
		if len(table.Partitions) > ptable.MaxPartitions || len(table.Notices) > 2*ptable.MaxPartitions {
			t.Fatalf("%d partitions, %d notices", len(table.Partitions), len(table.Notices))
		}
		for _, p := range table.Partitions {
			if img, err := p.Image(open(b)); err != nil || img.Size() != p.Size || p.Size < 1 || p.Number < 1 {
				t.Fatalf("%+v: %v", p, err)
			}
		}
	})
}

// used are the sectors that are not zeros.
func used(b []byte) (places []int) {
	for at := 0; at < len(b); at += 512 {
		if !bytes.Equal(b[at:at+512], make([]byte, 512)) {
			places = append(places, at)
		}
	}
	return places
}

// seal makes the checksums of a GPT right.
func seal(b []byte, header int) {
	le := binary.LittleEndian
	entries, n := le.Uint64(b[header+72:])*512, uint64(le.Uint32(b[header+80:]))*uint64(le.Uint32(b[header+84:]))
	if entries < uint64(len(b)) && n < uint64(len(b))-entries {
		le.PutUint32(b[header+88:], crc32.ChecksumIEEE(b[entries:entries+n]))
	}
	if size := le.Uint32(b[header+12:]); size >= 92 && size <= 512 {
		le.PutUint32(b[header+16:], 0)
		le.PutUint32(b[header+16:], crc32.ChecksumIEEE(b[header:header+int(size)]))
	}
}
