package direct

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/filerestore"
	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
	"github.com/holdfast-backup/holdfast/internal/fsread/md"
	"github.com/holdfast-backup/holdfast/internal/image"
)

func path(t *testing.T, s string) filerestore.Path {
	t.Helper()
	p, err := filerestore.ParsePath(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// listing is a list on one line: type, name and note of each entry.
func listing(t *testing.T, d *Driver, s string) string {
	t.Helper()
	all, err := d.List(t.Context(), path(t, s))
	if err != nil {
		return err.Error()
	}
	filerestore.Sort(all)
	var lines []string
	for _, e := range all {
		lines = append(lines, strings.TrimSuffix(fmt.Sprintf("%c %s: %s", e.Type, e.Path.Base(), e.Note), ": "))
	}
	return strings.Join(lines, " | ")
}

// content is a file.
func content(t *testing.T, d *Driver, s string) string {
	t.Helper()
	p, err := d.Open(t.Context(), path(t, s), filerestore.OpenOptions{})
	if err != nil {
		return err.Error()
	}
	defer p.Close()
	if !p.IsFile() {
		return "no file"
	}
	for {
		e, err := p.Next()
		if err != nil {
			return err.Error()
		}
		if b, err := io.ReadAll(p); err != nil {
			return err.Error()
		} else if e.Name != "" {
			return string(b)
		}
	}
}

func check(t *testing.T, d *Driver, want map[string]string, show func(*testing.T, *Driver, string) string) {
	t.Helper()
	for p, want := range want {
		if got := show(t, d, p); got != want {
			t.Errorf("%s: %q, want %q", p, got, want)
		}
	}
}

func TestPathsLeadThroughTablesGroupsAndArrays(t *testing.T) {
	two := arrayOf("raid", partitioned(t, fileSystem(t, "array"), volumeGroup("xgroup", fileSystem(t, "xroot"))))
	d := New(disks(
		partitioned(t, fileSystem(t, "first"), make([]byte, mib), volumeGroup("group", partitioned(t, fileSystem(t, "inner")))),
		fileSystem(t, "bare"),
		two[0], partitioned(t, two[1]),
	), Options{})
	check(t, d, map[string]string{
		"/disk0.img.fidx":                          "v lvm | v part",
		"/disk0.img.fidx/part":                     "d 1: ext4, label first, partition part1 | d 2: nothing that is known, partition part2 | d 3: LVM2_member, partition part3",
		"/disk0.img.fidx/part/1":                   "d etc | d lost+found",
		"/disk0.img.fidx/part/1/etc":               "f name | l link",
		"/disk0.img.fidx/part/1/etc/name":          "f name",
		"/disk0.img.fidx/lvm":                      "d group: 1 volume | d xgroup: 1 volume",
		"/disk0.img.fidx/lvm/group":                "d root: gpt",
		"/disk0.img.fidx/lvm/group/root":           "v part",
		"/disk0.img.fidx/lvm/group/root/part":      "d 1: ext4, label inner, partition part1",
		"/disk1.img.fidx":                          "v raw: ext4, label bare",
		"/disk1.img.fidx/raw/etc":                  "f name | l link",
		"/disk2.img.fidx":                          "v lvm | v md",
		"/disk3.img.fidx":                          "v lvm | v md | v part",
		"/disk3.img.fidx/md":                       "d raid: gpt",
		"/disk2.img.fidx/md/raid":                  "v part",
		"/disk2.img.fidx/md/raid/part":             "d 1: ext4, label array, partition part1 | d 2: LVM2_member, partition part2",
		"/disk2.img.fidx/md/raid/part/1/etc":       "f name | l link",
		"/disk2.img.fidx/lvm/xgroup":               "d root: ext4, label xroot",
		"/disk3.img.fidx/lvm/xgroup/root/etc/name": "f name",
	}, listing)
	check(t, d, map[string]string{
		"/disk0.img.fidx/part/1/etc/name":                "this is first\n",
		"/disk0.img.fidx/lvm/group/root/part/1/etc/name": "this is inner\n",
		"/disk1.img.fidx/raw/etc/name":                   "this is bare\n",
		"/disk2.img.fidx/md/raid/part/1/etc/name":        "this is array\n",
		"/disk2.img.fidx/lvm/xgroup/root/etc/name":       "this is xroot\n",
		"/disk1.img.fidx/raw/etc":                        "no file",
	}, content)
	if n := d.Notices(); len(n) > 0 {
		t.Errorf("%q", n)
	}
}

func TestWhatIsNotThereIsSaidToBeMissing(t *testing.T) {
	d := New(disks(partitioned(t, fileSystem(t, "first"), make([]byte, mib), volumeGroup("group", make([]byte, mib))), fileSystem(t, "bare")), Options{})
	for p, what := range map[string]string{
		"/other.img.fidx":                      "no image other.img.fidx",
		"/disk0.img.fidx/part/7":               "part/7",
		"/disk0.img.fidx/part/1/none":          "part/1/none",
		"/disk0.img.fidx/part/1/etc/name/x":    "name/x",
		"/disk0.img.fidx/part/1/etc/link/x":    `a symbolic link to "name", which is not followed`,
		"/disk0.img.fidx/part/2":               "holds no files",
		"/disk0.img.fidx/part/3":               "below /disk0.img.fidx/lvm",
		"/disk0.img.fidx/raw":                  "no file system",
		"/disk0.img.fidx/lvm/none":             "lvm/none",
		"/disk0.img.fidx/lvm/group/none":       "group/none",
		"/disk0.img.fidx/lvm/group/root":       "holds no files",
		"/disk0.img.fidx/md/none":              "md/none",
		"/disk0.img.fidx/something/else/there": "something",
		"/disk1.img.fidx/part":                 "there is no partition table, what is on the disk is ext4, label bare",
		"/disk1.img.fidx/part/1/etc":           "there is no partition table",
	} {
		if _, err := d.List(t.Context(), path(t, p)); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", p, err)
		}
	}
	for _, p := range []string{"/disk0.img.fidx", "/disk0.img.fidx/part", "/disk0.img.fidx/lvm/group"} {
		if _, err := d.Open(t.Context(), path(t, p), filerestore.OpenOptions{}); !errors.Is(err, filerestore.ErrPath) {
			t.Errorf("%s is fetched: %v", p, err)
		}
	}
}

func TestEncryptedVolumesAreWhatTheyHold(t *testing.T) {
	two := arrayOf("raid", encrypted(t, fileSystem(t, "on an array")))
	all := disks(
		partitioned(t, fileSystem(t, "open"), encrypted(t, fileSystem(t, "secret"))),
		encrypted(t, volumeGroup("group", fileSystem(t, "volume"))),
		two[0], two[1],
	)
	files := map[string]string{
		"/disk0.img.fidx/part/2/etc/name":         "this is secret\n",
		"/disk1.img.fidx/lvm/group/root/etc/name": "this is volume\n",
		"/disk2.img.fidx/md/raid/etc/name":        "this is on an array\n",
	}
	d := New(all, Options{Passphrase: []byte(passphrase)})
	check(t, d, files, content)
	check(t, d, map[string]string{
		"/disk0.img.fidx/part": "d 1: ext4, label open, partition part1 | d 2: crypto_LUKS, ext4, label secret, partition part2",
		"/disk1.img.fidx":      "v lvm",
		"/disk2.img.fidx/md":   "d raid: crypto_LUKS, ext4, label on an array",
	}, listing)

	locked, wrong := New(all, Options{}), New(all, Options{Passphrase: []byte("let me out")})
	for p := range files {
		if strings.Contains(p, "lvm") {
			p = "/disk1.img.fidx"
		}
		if _, err := locked.List(t.Context(), path(t, p)); !errors.Is(err, filerestore.ErrLocked) || !strings.Contains(err.Error(), "disk") {
			t.Errorf("%s without a passphrase: %v", p, err)
		}
		if _, err := wrong.List(t.Context(), path(t, p)); !errors.Is(err, filerestore.ErrPassphrase) {
			t.Errorf("%s with another passphrase: %v", p, err)
		}
	}
	check(t, locked, map[string]string{
		"/disk0.img.fidx/part":            "d 1: ext4, label open, partition part1 | d 2: crypto_LUKS, partition part2",
		"/disk0.img.fidx/part/1/etc/name": "f name",
	}, listing)
}

func TestAFileSystemOnSeveralDisksIsPutTogether(t *testing.T) {
	one, other := fsreadtest.Make(t, 126*mib), fsreadtest.Make(t, 126*mib)
	fsreadtest.Run(t, "mkfs.btrfs", "-q", "-f", "-L", "both", "-d", "raid0", "-m", "raid0", one, other)
	all := []Disk{{"disk0.img.fidx", fsreadtest.OpenFile(t, other)}, {"disk1.img.fidx", fsreadtest.OpenFile(t, one)}}
	d := New(all, Options{})
	check(t, d, map[string]string{
		"/disk0.img.fidx/raw": "",
		"/disk1.img.fidx":     "v raw: btrfs, label both",
		"/disk1.img.fidx/raw": "",
	}, listing)
	if n := d.Notices(); len(n) > 0 {
		t.Errorf("%q", n)
	}
	alone := New(all[1:], Options{})
	_ = listing(t, alone, "/disk1.img.fidx/raw") // it may lie on the other one
	if n := alone.Notices(); len(n) != 1 || !strings.Contains(n[0], "has 2 devices, of which 1 are there") {
		t.Errorf("one of two: %q", n)
	}
}

// A stranger's disk may have as many encrypted volumes as it likes.
func TestAPassphraseIsTriedOnSoManyVolumesAndNoMore(t *testing.T) {
	head := make([]byte, 64<<10) // of version 1, without a slot: no passphrase opens it
	copy(head, "LUKS\xba\xbe\x00\x01aes")
	var parts [][]byte
	for range maxTries + 10 {
		parts = append(parts, head)
	}
	d := New(disks(partitioned(t, parts...)), Options{Passphrase: []byte(passphrase)})
	if got := listing(t, d, "/disk0.img.fidx"); got != "v part" {
		t.Errorf("%s", got)
	}
	_, err := d.List(t.Context(), path(t, fmt.Sprintf("/disk0.img.fidx/part/%d", maxTries)))
	if !errors.Is(err, filerestore.ErrPassphrase) {
		t.Errorf("the last that is tried: %v", err)
	}
	_, err = d.List(t.Context(), path(t, fmt.Sprintf("/disk0.img.fidx/part/%d", maxTries+1)))
	if _, ok := errors.AsType[*fsread.UnsupportedError](err); !ok {
		t.Errorf("one more: %v", err)
	}
}

func TestWhatIsNotUnderstoodIsNamedForTheMachine(t *testing.T) {
	udf := make([]byte, mib)
	for i, id := range []string{"BEA01", "NSR02", "TEA01"} {
		copy(udf[(16+i)*2048+1:], id)
	}
	bitlocker := make([]byte, mib)
	copy(bitlocker[3:], "-FVE-FS-")
	two := arrayOf("raid", make([]byte, mib))
	le.PutUint32(two[0][4096+8:], 0x1004) // it is being reshaped; and the checksum is of before
	le.PutUint32(two[0][4096+216:], le.Uint32(two[0][4096+216:])+4)
	d := New(disks(udf, partitioned(t, bitlocker), two[0]), Options{})
	for p, what := range map[string]string{
		"/disk0.img.fidx/raw":      "udf",
		"/disk1.img.fidx/part/1":   "BitLocker",
		"/disk2.img.fidx/md":       "being reshaped",
		"/disk2.img.fidx/md/raid":  "being reshaped",
		"/disk0.img.fidx/zpool":    "zfs",
		"/disk0.img.fidx/zpool/xy": "zfs",
	} {
		_, err := d.List(t.Context(), path(t, p))
		if _, ok := errors.AsType[*fsread.UnsupportedError](err); !ok || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", p, err)
		}
	}
	if got := listing(t, d, "/disk0.img.fidx"); got != "v raw: udf" {
		t.Errorf("%s", got)
	}
}

func TestMembersThatAreMissingAreToldOf(t *testing.T) {
	two := arrayOf("raid", fileSystem(t, "array"))
	d := New(disks(two[1]), Options{})
	if got := listing(t, d, "/disk0.img.fidx/md"); !strings.Contains(got, "of its 2 members 1 are among the disks") {
		t.Errorf("%s", got)
	}
	_, err := d.List(t.Context(), path(t, "/disk0.img.fidx/md/raid"))
	if _, ok := errors.AsType[*md.MissingError](err); !ok {
		t.Errorf("%v", err)
	}
	if n := d.Notices(); len(n) != 1 || !strings.Contains(n[0], "array raid: of 2 members 1 are there") {
		t.Errorf("%q", n)
	}
}

func TestADiskThatCannotBeReadIsNoMissingFile(t *testing.T) {
	b := partitioned(t, fileSystem(t, "first"))
	for _, at := range []int64{0, mib + 1024, 2 * mib} {
		bad := image.Faulty{Image: fsreadtest.Mem(b), Bad: at, Length: 2 * mib, Err: syscall.EIO}
		d := New([]Disk{{Archive: "disk.img.fidx", Image: bad}}, Options{})
		for _, p := range []string{"/disk.img.fidx/part/1/etc", "/disk.img.fidx/part/1/etc/name"} {
			if _, err := d.List(t.Context(), path(t, p)); err != nil && !errors.Is(err, syscall.EIO) {
				t.Errorf("%s, bad from %d: %v", p, at, err)
			}
		}
		if got := content(t, d, "/disk.img.fidx/part/1/etc/name"); !strings.Contains(got, syscall.EIO.Error()) && got != "this is first\n" {
			t.Errorf("bad from %d: %q", at, got)
		}
	}
}

func TestAListingEndsWithItsContext(t *testing.T) {
	d := New(disks(fileSystem(t, "bare")), Options{})
	late := errors.New("out of time")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(late)
	if _, err := d.List(ctx, path(t, "/disk0.img.fidx/raw")); !errors.Is(err, late) {
		t.Errorf("%v", err)
	}
}

func TestAJournalIsToldOf(t *testing.T) {
	img := filepath.Join(t.TempDir(), "img")
	dir := t.TempDir()
	write(t, filepath.Join(dir, "etc", "name"), "x")
	write(t, img, string(make([]byte, 8*mib)))
	fsreadtest.Run(t, "mke2fs", "-q", "-F", "-t", "ext4", "-d", dir, img)
	fsreadtest.Run(t, "debugfs", "-w", "-R", "feature needs_recovery", img)
	d := New(disks(read(t, img)), Options{})
	if got := listing(t, d, "/disk0.img.fidx/raw/etc"); got != "f name" {
		t.Errorf("%s", got)
	}
	if n := d.Notices(); len(n) != 1 || !strings.HasPrefix(n[0], "disk0.img.fidx: ") {
		t.Errorf("%q", n)
	}
}
