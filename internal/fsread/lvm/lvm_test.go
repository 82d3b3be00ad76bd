package lvm

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

type mem struct{ *bytes.Reader }

const (
	volumeSize = 4 << 20
	areaAt     = 4096
	areaSize   = 64 << 10
	dataAt     = 1 << 20 // the first extent
)

// volumeOf makes a physical volume with a text, which begins at an offset of its
// area and may go around. Its data says where it is.
func volumeOf(uuid, text string, at int) []byte {
	b := make([]byte, volumeSize)
	for i := dataAt; i < len(b); i += 64 << 10 { // each extent
		copy(b[i:], fmt.Sprintf("%.4s%12d", uuid, i))
	}
	label := b[512:1024]
	copy(label, "LABELONE")
	le.PutUint64(label[8:], 1)
	le.PutUint32(label[20:], 32)
	copy(label[24:], "LVM2 001")
	copy(label[32:], uuid)
	le.PutUint64(label[64:], volumeSize)
	le.PutUint64(label[72:], dataAt)
	le.PutUint64(label[104:], areaAt)
	le.PutUint64(label[112:], areaSize)
	le.PutUint32(label[16:], sum(label[20:]))
	area := b[areaAt : areaAt+areaSize]
	copy(area[4:], areaMagic)
	le.PutUint32(area[20:], 1)
	le.PutUint64(area[24:], areaAt)
	le.PutUint64(area[32:], areaSize)
	if text != "" {
		le.PutUint64(area[40:], uint64(at))
		le.PutUint64(area[48:], uint64(len(text)))
		le.PutUint32(area[56:], sum([]byte(text)))
		n := copy(area[at:], text)
		copy(area[512:], text[n:])
	}
	le.PutUint32(area, sum(area[4:512]))
	return b
}

// sum is the checksum as LVM's code has it: bit by bit.
func sum(b []byte) uint32 {
	crc := uint32(0xf597a6cf)
	for _, c := range b {
		crc ^= uint32(c)
		for range 8 {
			crc = crc>>1 ^ crc32.IEEE*(crc&1)
		}
	}
	return crc
}

var uuids = []string{strings.Repeat("a", 32), strings.Repeat("b", 32)}

// text is a group on both, with extents of 64 KiB.
func text(seqno int, volumes string) string {
	return fmt.Sprintf(`# written by nobody
vg {
	id = "group" # the same for all
	seqno = %d
	format = "lvm2"
	status = ["RESIZEABLE", "READ"]
	extent_size = 128
	physical_volumes {
		pv0 { id = "%s" device = "/dev/\"sda\\" pe_start = 2048 pe_count = 48 }
		pv1 { id = "%s" device = "unknown device" pe_start = 2048 pe_count = 48 }
	}
	logical_volumes { %s }
}
contents = "Text Format Volume Group"
version = 1.5
`, seqno, dashed(uuids[0]), dashed(uuids[1]), volumes)
}

func logical(name string, segments ...string) string {
	s := name + ` { id = "` + name + `" status = ["READ", "VISIBLE"] `
	for i, seg := range segments {
		s += fmt.Sprintf("segment%d { %s } ", i+1, seg)
	}
	return s + "}\n"
}

func segment(start, count int, kind, more string) string {
	return fmt.Sprintf(`start_extent = %d extent_count = %d type = "%s" %s`, start, count, kind, more)
}

func group(t *testing.T, images ...[]byte) *Group {
	t.Helper()
	var all []*Volume
	for _, b := range images {
		v, err := Read(mem{bytes.NewReader(b)})
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

func linear(pv string, extent int) string {
	return segment(0, 2, "striped", fmt.Sprintf(`stripe_count = 1 stripes = [ "%s", %d ]`, pv, extent))
}

func TestTextsMayGoAroundTheirArea(t *testing.T) {
	s := text(1, logical("a", linear("pv0", 3)))
	for _, at := range []int{512, 1024, areaSize - 1, areaSize - len(s), areaSize - 100} {
		g := group(t, volumeOf(uuids[0], s, at))
		if len(g.Logical) != 1 || g.Logical[0] != (Logical{"a", "a", 2 * 64 << 10}) {
			t.Errorf("at %d: %+v", at, g.Logical)
		}
	}
}

func TestTheNewestTextCounts(t *testing.T) {
	older, newer := text(9, logical("a", linear("pv0", 3))), text(10, logical("b", linear("pv1", 3)))
	for _, images := range [][][]byte{
		{volumeOf(uuids[0], older, 512), volumeOf(uuids[1], newer, 512)},
		{volumeOf(uuids[1], newer, 512), volumeOf(uuids[0], older, 512)},
		{volumeOf(uuids[1], newer, 512), volumeOf(uuids[0], "", 0)},
	} {
		if g := group(t, images...); len(g.Logical) != 1 || g.Logical[0].Name != "b" || g.Notices != nil {
			t.Errorf("%+v", g)
		}
	}
}

func TestMissingPhysicalVolumesAreNamed(t *testing.T) {
	s := text(1, logical("here", linear("pv1", 0))+logical("gone", linear("pv0", 0)))
	g := group(t, volumeOf(uuids[1], s, 512))
	if len(g.Notices) != 1 || !strings.Contains(g.Notices[0], `(was /dev/"sda\)`) {
		t.Errorf("%q", g.Notices)
	}
	if _, err := g.Open("here"); err != nil {
		t.Error(err)
	}
	_, err := g.Open("gone")
	if m, ok := errors.AsType[*MissingError](err); !ok || len(m.Volumes) != 1 || !strings.Contains(m.Volumes[0], dashed(uuids[0])) {
		t.Errorf("%v", err)
	}
}

func TestTwoImagesOfOnePhysicalVolumeAreToldOf(t *testing.T) {
	b := volumeOf(uuids[0], text(1, logical("a", linear("pv0", 0))), 512)
	if g := group(t, b, b); len(g.Notices) != 2 || !strings.Contains(g.Notices[0], "two images") {
		t.Errorf("%q", g.Notices)
	}
}

func TestVolumesOnVolumesReadThrough(t *testing.T) {
	below := logical("below", segment(0, 2, "striped", `stripes = ["pv0", 5]`), segment(2, 1, "zero", ""), segment(3, 1, "error", ""))
	g := group(t, volumeOf(uuids[0], text(1, below+logical("top", segment(0, 4, "striped", `stripes = ["below", 0]`))), 512))
	img, err := g.Open("top")
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 16)
	if _, err := img.ReadAt(b, 64<<10); err != nil || string(b) != fmt.Sprintf("aaaa%12d", dataAt+6*64<<10) {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := img.ReadAt(b, 2*64<<10); err != nil || len(bytes.Trim(b, "\x00")) > 0 {
		t.Errorf("zeros: %q, %v", b, err)
	}
	if n, err := img.ReadAt(make([]byte, 64<<10+1), 2*64<<10); n != 64<<10 || err == nil {
		t.Errorf("an error behind zeros: %d, %v", n, err)
	}
}

func TestTextsThatMakeNoSenseAreDamaged(t *testing.T) {
	for name, volumes := range map[string]string{
		"a loop":                 logical("a", segment(0, 1, "striped", `stripes = ["b", 0]`)) + logical("b", segment(0, 1, "striped", `stripes = ["a", 0]`)),
		"no such volume":         logical("a", segment(0, 1, "striped", `stripes = ["x", 0]`)),
		"behind the end":         logical("a", linear("pv0", 47)),
		"far behind the end":     logical("a", linear("pv0", 1<<31)),
		"a gap":                  logical("a", segment(0, 1, "zero", ""), segment(2, 1, "zero", "")),
		"an empty segment":       logical("a", segment(0, 0, "zero", "")),
		"no stripes":             logical("a", segment(0, 1, "striped", `stripes = []`)),
		"half a stripe":          logical("a", segment(0, 1, "striped", `stripes = ["pv0"]`)),
		"odd stripes":            logical("a", segment(0, 3, "striped", `stripe_size = 8 stripes = ["pv0", 0, "pv0", 8]`)),
		"stripes without a size": logical("a", segment(0, 2, "striped", `stripes = ["pv0", 0, "pv0", 8]`)),
		"stripes of no size":     logical("a", segment(0, 2, "striped", `stripe_size = 0 stripes = ["pv0", 0, "pv0", 8]`)),
		"no type":                logical("a", `start_extent = 0 extent_count = 1`),
		"a mirror of nothing":    logical("a", segment(0, 1, "mirror", `mirrors = []`)),
	} {
		g := group(t, volumeOf(uuids[0], text(1, volumes), 512))
		if _, err := g.Open("a"); !fsread.IsCorrupt(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOtherKindsOfVolumesAreRefusedByName(t *testing.T) {
	volumes := logical("thin", segment(0, 1, "thin", `external_origin = "x"`)) + logical("cached", segment(0, 1, "cache", "")) +
		logical("flagged", segment(0, 1, "striped+NEW", "")) + logical("origin", linear("pv0", 0)) +
		logical("store", linear("pv0", 4)) + logical("tie", segment(0, 2, "snapshot", `origin = "origin" merging_store = "store"`))
	g := group(t, volumeOf(uuids[0], text(1, volumes), 512))
	for name, what := range map[string]string{
		"thin": "outside of its pool", "cached": "type cache", "flagged": "striped+NEW", "origin": "is being merged", "store": "a snapshot of origin",
	} {
		_, err := g.Open(name)
		if u, ok := errors.AsType[*fsread.UnsupportedError](err); !ok || !strings.Contains(u.What, what) || !strings.Contains(u.What, "vg/"+name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := g.Open("tie"); !errors.Is(err, fsread.ErrNotExist) {
		t.Errorf("tie: %v", err)
	}
}

func TestTurnedBitsOfLabelsAndMetadataAreNoticed(t *testing.T) {
	whole := volumeOf(uuids[0], text(1, logical("a", linear("pv0", 0))), 512)
	for at := 512; at < areaAt+1100; at++ {
		if at == 1024 {
			at = areaAt
		}
		whole[at] ^= 4
		v, err := Read(mem{bytes.NewReader(whole)})
		whole[at] ^= 4
		if err == nil && v.Problem == nil {
			t.Fatalf("byte %d: nothing is noticed", at)
		}
	}
}

// Two levels that fan out: as many volumes as the text has, not their product.
func TestManyVolumesOnOneAnotherOpenInTheirNumber(t *testing.T) {
	var volumes strings.Builder
	for level := range maxLevels - 1 {
		var segments []string
		for i := range 40 {
			segments = append(segments, segment(i, 1, "striped", fmt.Sprintf(`stripes = ["l%d", %d]`, level+1, i)))
		}
		volumes.WriteString(logical(fmt.Sprint("l", level), segments...))
	}
	volumes.WriteString(logical(fmt.Sprint("l", maxLevels-1), segment(0, 40, "zero", "")))
	s := text(1, volumes.String())
	g := group(t, volumeOf(uuids[0], s, 512))
	img, err := g.Open("l0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := img.ReadAt(make([]byte, img.Size()), 0); err != nil {
		t.Fatal(err)
	}
}

func FuzzText(f *testing.F) {
	f.Add(text(1, logical("a", linear("pv0", 3))))
	f.Add(text(1, logical("a", segment(0, 2, "mirror", `mirrors = ["pv0", 0, "pv1", 0]`))+logical("b", segment(0, 1, "raid1", `raids = ["a", "a"]`))))
	f.Add(text(1, logical("a", segment(0, 2, "raid0", `stripe_size = 8 raid0_lvs = ["b", "b"]`))+logical("b", linear("pv0", 1))))
	data := mem{bytes.NewReader(make([]byte, volumeSize))}
	f.Fuzz(func(t *testing.T, s string) {
		text, err := parseGroup([]byte(s))
		if err != nil {
			return
		}
		groups, _ := Assemble([]*Volume{{UUID: dashed(uuids[0]), img: data, text: text}})
		for _, g := range groups {
			for _, l := range g.Logical {
				img, err := g.Open(l.Name)
				if err != nil {
					continue
				}
				if img.Size() != l.Size {
					t.Fatalf("%s has %d bytes, %d are said", l.Name, img.Size(), l.Size)
				}
				n := min(1<<16, img.Size())
				for _, off := range []int64{0, img.Size() - n} {
					_, _ = img.ReadAt(make([]byte, n), off)
				}
			}
		}
	})
}
