package changer_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/changer"
)

func (b *bench) status(kind byte, start, n int, ids byte, allowed int) ([]byte, error) {
	in := make([]byte, 0x10000)
	cdb := []byte{0xb8, kind, byte(start >> 8), byte(start), byte(n >> 8), byte(n), ids, byte(allowed >> 16), byte(allowed >> 8), byte(allowed), 0, 0}
	k, err := b.c.Execute(cdb, nil, in)
	return in[:k], err
}

// The answer of mhvtl 1.8.0 about a loaded drive.
func TestTheStatusOfADriveIsThatOfAnotherEmulator(t *testing.T) {
	b := newBench(t, changer.Quirks{})
	want, err := hex.DecodeString("01f400010000003c" + "0480003400000034" + "01f4010000000000008103e8" +
		hex.EncodeToString([]byte("E01001L8"+strings.Repeat(" ", 24))) + "0000000000000000")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := b.status(0x14, drive0, 1, 0, 0xffff); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("\n got %x\nwant %x: %v", got, want, err)
	}
}

// element is a descriptor, parsed.
type element struct {
	flags byte
	tag   string
	from  int
	id    string
}

// parse takes an answer apart; each page has descriptors of one length.
func parse(t *testing.T, b []byte, tags bool) map[int]element {
	t.Helper()
	be := binary.BigEndian
	all := map[int]element{}
	if int(be.Uint32(b[4:])) != len(b)-8 {
		t.Fatalf("%d bytes, and the header says %d", len(b)-8, be.Uint32(b[4:]))
	}
	for p := b[8:]; len(p) > 0; {
		size, n := int(be.Uint16(p[2:])), int(be.Uint32(p[4:]))
		for d := p[8 : 8+n]; len(d) > 0; d = d[size:] {
			e := element{flags: d[2]}
			if d[9]&0x80 != 0 {
				e.from = int(be.Uint16(d[10:]))
			}
			rest := d[12:size]
			if tags && len(rest) >= 36 {
				e.tag, rest = strings.TrimRight(string(rest[:32]), " \x00"), rest[36:]
			}
			if len(rest) > 4 {
				e.id = string(rest[4 : 4+int(rest[3])])
			}
			all[int(be.Uint16(d))] = e
		}
		p = p[8+n:]
	}
	return all
}

func TestAllElementsAreTold(t *testing.T) {
	b := newBench(t, changer.Quirks{})
	got, err := b.status(0x10, 0, 0xffff, 1, 0xffffff)
	if err != nil {
		t.Fatal(err)
	}
	all := parse(t, got, true)
	id := func(serial string) string { return "IBM     ULT3580-TD8     " + serial + "      " }
	for address, want := range map[int]element{
		transport: {},
		station:   {flags: 0x38},
		drive0:    {flags: 0x01, tag: "E01001L8", from: slot1, id: id("DRV1")},
		drive1:    {flags: 0x08, id: id("DRV2")},
		slot1:     {flags: 0x08},
		slot2:     {flags: 0x09, tag: "E01002L8"},
		slot3:     {flags: 0x0d}, // an exception: there is no label
	} {
		if all[address] != want {
			t.Errorf("element %d is %+v, want %+v", address, all[address], want)
		}
	}
	if len(all) != 1+2+2+8 {
		t.Errorf("%d elements", len(all))
	}
}

func TestAQueryCanAskForSome(t *testing.T) {
	b := newBench(t, changer.Quirks{})
	for _, tc := range []struct {
		kind     byte
		start, n int
		want     []int
	}{
		{2, 0, 3, []int{1000, 1001, 1002}},
		{2, 1006, 100, []int{1006, 1007}},
		{0, 11, 3, []int{11, 500, 501}},
		{4, 502, 5, nil},
	} {
		got, err := b.status(tc.kind, tc.start, tc.n, 0, 0xffff)
		if err != nil {
			t.Fatal(err)
		}
		if have := slices.Sorted(maps.Keys(parse(t, got, false))); !slices.Equal(have, tc.want) {
			t.Errorf("type %d from %d: %v, want %v", tc.kind, tc.start, have, tc.want)
		}
	}
	got, err := b.status(0, 0, 100, 0, 8)
	if err != nil || len(got) != 8 || binary.BigEndian.Uint16(got[2:]) != 13 {
		t.Errorf("the header alone is %x: %v", got, err)
	}
	_, err = b.status(0, 2000, 1, 0, 100)
	b.says(err, scsi.IllegalRequest, 0x2101)
	_, err = b.status(5, 0, 1, 0, 100)
	b.says(err, scsi.IllegalRequest, 0x2400)
}
