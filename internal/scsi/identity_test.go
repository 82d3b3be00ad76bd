package scsi_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/target"
)

// answers is a unit that knows a few commands, by opcode and first byte of
// the rest.
type answers map[string]string

func (a answers) Execute(cdb, out, in []byte) (int, error) {
	reply, ok := a[hex.EncodeToString(cdb[:3])]
	if !ok {
		return 0, &scsi.Sense{Key: scsi.IllegalRequest, ASC: 0x20}
	}
	if out != nil {
		a["got"] = hex.EncodeToString(out)
		return len(out), nil
	}
	b, err := hex.DecodeString(reply)
	if err != nil {
		panic(err)
	}
	return copy(in, b), nil
}

func TestAUnitSaysWhatItIs(t *testing.T) {
	tr := target.Connect(answers{
		"120000": "01800602" + "1f000000" + hex.EncodeToString([]byte("IBM     ULT3580-TD8     HB82")),
		"120180": "01800010" + hex.EncodeToString([]byte("  XYZZY_A1\x00ignore")),
		"000000": "",
	})
	id, err := scsi.Identify(tr)
	if want := (scsi.Identity{Type: scsi.TypeTape, Vendor: "IBM", Product: "ULT3580-TD8", Revision: "HB82"}); err != nil || id != want {
		t.Fatalf("it is %+v, want %+v: %v", id, want, err)
	}
	serial, err := scsi.SerialNumber(tr)
	if serial != "XYZZY_A1" || err != nil {
		t.Fatalf("its serial number is %q: %v", serial, err)
	}
	if err := scsi.CheckReady(tr); err != nil {
		t.Fatal(err)
	}
}

func TestAUnitThatIsNotConnectedIsNone(t *testing.T) {
	b := make([]byte, 36)
	b[0] = 0x21
	id, err := scsi.ParseIdentity(b)
	if err != nil || id.Type != scsi.TypeNone {
		t.Fatalf("it is %+v: %v", id, err)
	}
	if _, err := scsi.ParseIdentity(b[:35]); err == nil {
		t.Fatal("an answer that is too short was accepted")
	}
}

func FuzzIdentity(f *testing.F) {
	f.Add([]byte("\x01\x80\x06\x02\x1f\x00\x00\x00IBM     ULT3580-TD8     HB82"))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := scsi.ParseIdentity(b)
		serial, serr := scsi.ParseSerialNumber(b)
		for _, s := range []string{id.Vendor, id.Product, id.Revision, serial} {
			if strings.TrimSpace(s) != s || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Fatalf("%q is no text for people (%v, %v)", s, err, serr)
			}
		}
	})
}
