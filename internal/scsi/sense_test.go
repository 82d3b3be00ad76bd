package scsi_test

import (
	"testing"

	"github.com/holdfast-backup/holdfast/internal/scsi"
)

func TestAFixedSenseIsDecoded(t *testing.T) {
	raw := []byte{0xf0, 0, 0x88, 0xff, 0xff, 0xff, 0xfe, 10, 0, 0, 0, 0, 0x00, 0x05, 0, 0, 0, 0}
	s, err := scsi.ParseSense(scsi.Space6, raw)
	if err != nil {
		t.Fatal(err)
	}
	want := scsi.Sense{Op: scsi.Space6, Key: scsi.BlankCheck, ASCQ: 5, Filemark: true, Info: -2, Valid: true}
	if *s != want {
		t.Fatalf("got %+v, want %+v", *s, want)
	}
	if got := s.Error(); got != "SPACE(6): the end of the data was met [8/00/05]" {
		t.Fatalf("it says %q", got)
	}
}

func TestADescriptorSenseIsDecoded(t *testing.T) {
	raw := []byte{0x73, 0x0d, 0x00, 0x02, 0, 0, 0, 16, 0x04, 2, 0, 0x40, 0x00, 0x0a, 0x80, 0, 0, 0, 0, 0, 0, 4, 0, 0}
	s, err := scsi.ParseSense(scsi.Write6, raw)
	if err != nil {
		t.Fatal(err)
	}
	want := scsi.Sense{Op: scsi.Write6, Key: scsi.VolumeOverflow, ASCQ: 2, Deferred: true, EOM: true, Info: 0x40000, Valid: true}
	if *s != want {
		t.Fatalf("got %+v, want %+v", *s, want)
	}
}

func FuzzSense(f *testing.F) {
	f.Add([]byte{0xf0, 0, 0x88, 0xff, 0xff, 0xff, 0xfe, 10, 0, 0, 0, 0, 0x00, 0x05})
	f.Add([]byte{0x72, 0, 0, 2, 0, 0, 0, 12, 0, 10, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := scsi.ParseSense(scsi.Read6, b)
		if err != nil {
			return
		}
		again, err := scsi.ParseSense(scsi.Read6, s.Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		if s.Info != int64(int32(s.Info)) {
			s.Info, s.Valid = 0, false // the fixed format has no room for it
		}
		if !s.Valid {
			s.Info = 0
		}
		if *again != *s {
			t.Fatalf("%+v became %+v", s, again)
		}
	})
}
