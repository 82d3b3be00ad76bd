package scsi_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/target"
)

// compression is what mhvtl 1.8 answers for page 0x0F of an LTO-8 drive.
const compression = "001e8810000000085e000000000000000f0ec080ffffffffffffffff00000000"

func TestAModePageIsReadAndWrittenBack(t *testing.T) {
	unit := answers{"5a000f": compression + "ffffff", "551000": ""} // more than the header says
	tr := target.Connect(unit)
	m, err := scsi.ReadMode(tr, scsi.ModePage{Page: 0x0f})
	if err != nil {
		t.Fatal(err)
	}
	if m.MediumType != 0x88 || m.Specific != 0x10 || hex.EncodeToString(m.Blocks) != "5e00000000000000" ||
		hex.EncodeToString(m.Page) != "0f0ec080ffffffffffffffff00000000" {
		t.Fatalf("got %+v", m)
	}
	m.Page[0] |= 0x80
	m.Specific |= 0x80
	if err := scsi.WriteMode(tr, m); err != nil {
		t.Fatal(err)
	}
	if want := "0000" + compression[4:]; unit["got"] != want {
		t.Fatalf("sent %s, want %s", unit["got"], want)
	}
}

func TestADriveThatOnlyKnowsSixByteModesIsAskedSo(t *testing.T) {
	unit := answers{"1a000f": "1b001008" + compression[16:], "151000": ""}
	tr := target.Connect(unit)
	m, err := scsi.ReadMode(tr, scsi.ModePage{Page: 0x0f})
	if err != nil {
		t.Fatal(err)
	}
	if !m.Short || len(m.Page) != 16 || len(m.Blocks) != 8 {
		t.Fatalf("got %+v", m)
	}
	if err := scsi.WriteMode(tr, m); err != nil {
		t.Fatal(err)
	}
	if want := "00001008" + compression[16:]; unit["got"] != want {
		t.Fatalf("sent %s, want %s", unit["got"], want)
	}
}

func TestOnlyAnUnknownCommandIsTriedAnotherWay(t *testing.T) {
	var asked []byte
	tr := target.Connect(refuses{asc: 0x24, asked: &asked})
	_, err := scsi.ReadMode(tr, scsi.ModePage{Page: 0x3d})
	if s, ok := errors.AsType[*scsi.Sense](err); !ok || s.ASC != 0x24 || !bytes.Equal(asked, []byte{0x5a}) {
		t.Fatalf("asked %x: %v", asked, err)
	}
}

// refuses is a unit that refuses everything.
type refuses struct {
	asc   uint8
	asked *[]byte
}

func (r refuses) Execute(cdb, _, _ []byte) (int, error) {
	*r.asked = append(*r.asked, cdb[0])
	return 0, &scsi.Sense{Key: scsi.IllegalRequest, ASC: r.asc}
}

func TestAnotherModePageIsNotTakenForTheOneAskedFor(t *testing.T) {
	b, err := hex.DecodeString(compression)
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]scsi.ModePage{"page": {Page: 0x10}, "subpage": {Page: 0x0f, Subpage: 1}} {
		if _, err := scsi.ParseMode(b, false, p); err == nil {
			t.Errorf("another %s was accepted", name)
		}
	}
	for n := range len(b) {
		if m, err := scsi.ParseMode(b[:n], false, scsi.ModePage{Page: 0x0f}); err == nil {
			t.Errorf("%d bytes were accepted as %+v", n, m)
		}
	}
}

func FuzzMode(f *testing.F) {
	b, err := hex.DecodeString(compression)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, false, uint8(0x0f), uint8(0))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0x50, 1, 0, 0x1c}, false, uint8(0x10), uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, short bool, page, sub uint8) {
		p := scsi.ModePage{Page: page, Subpage: sub}
		m, err := scsi.ParseMode(b, short, p)
		if err != nil {
			return
		}
		again := m.Append(nil)
		if len(again) > len(b) {
			t.Fatalf("%d bytes became %d", len(b), len(again))
		}
		if short { // the length, which MODE SELECT wants to be zero
			again[0] = byte(len(again) - 1)
		} else {
			again[0], again[1] = byte((len(again)-2)>>8), byte(len(again)-2)
		}
		m2, err := scsi.ParseMode(again, short, p)
		if err != nil || !bytes.Equal(m2.Blocks, m.Blocks) || len(m2.Page) != len(m.Page) {
			t.Fatalf("%+v became %+v: %v", m, m2, err)
		}
	})
}
