package spc_test

import (
	"bytes"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/spc"
)

// pages are a page, one of which some bits can be changed, and one with a subpage.
func pages() []spc.Page {
	return []spc.Page{
		{Code: 0x02, Body: []byte{1, 2, 3, 4}},
		{Code: 0x0f, Body: []byte{0x40, 0x10}, Changeable: []byte{0x80}},
		{Code: 0x10, Sub: 0x01, Body: []byte{0, 0, 7}, Changeable: []byte{0, 0, 0xff}},
	}
}

func says(t *testing.T, err error, code uint16) {
	t.Helper()
	if s, ok := scsi.AsSense(err); !ok || !s.Says(scsi.IllegalRequest, code) {
		t.Errorf("it says %v, want 5/%04x", err, code)
	}
}

func TestModePagesComeInBothFrames(t *testing.T) {
	descriptor := []byte{0x5e, 0, 0, 0, 0, 0, 0, 0}
	for _, tc := range []struct {
		name      string
		cdb, want []byte
	}{
		{"one page", []byte{0x1a, 0x08, 0x0f, 0, 255, 0}, []byte{7, 0x88, 0x10, 0, 0x0f, 2, 0x40, 0x10}},
		{"with the descriptor", []byte{0x1a, 0, 0x0f, 0, 255, 0}, append(append([]byte{15, 0x88, 0x10, 8}, descriptor...), 0x0f, 2, 0x40, 0x10)},
		{"by ten bytes", []byte{0x5a, 0x08, 0x0f, 0, 0, 0, 0, 0, 255, 0}, []byte{0, 10, 0x88, 0x10, 0, 0, 0, 0, 0x0f, 2, 0x40, 0x10}},
		{"a subpage", []byte{0x1a, 0x08, 0x10, 1, 255, 0}, []byte{10, 0x88, 0x10, 0, 0x50, 1, 0, 3, 0, 0, 7}},
		{"what can be changed", []byte{0x1a, 0x08, 0x4f, 0, 255, 0}, []byte{7, 0x88, 0x10, 0, 0x0f, 2, 0x80, 0}},
		{"all pages", []byte{0x1a, 0x08, 0x3f, 0, 255, 0}, []byte{13, 0x88, 0x10, 0, 0x02, 4, 1, 2, 3, 4, 0x0f, 2, 0x40, 0x10}},
		{"all with subpages", []byte{0x1a, 0x08, 0x3f, 0xff, 255, 0}, []byte{20, 0x88, 0x10, 0, 0x02, 4, 1, 2, 3, 4, 0x0f, 2, 0x40, 0x10, 0x50, 1, 0, 3, 0, 0, 7}},
		{"as much as is allowed", []byte{0x1a, 0x08, 0x0f, 0, 3, 0}, []byte{7, 0x88, 0x10}},
		{"the header alone", []byte{0x1a, 0x08, 0, 0, 255, 0}, []byte{3, 0x88, 0x10, 0}},
	} {
		in := make([]byte, 255)
		n, err := spc.ModeSense(tc.cdb, in, 0x88, 0x10, descriptor, pages(), spc.Answers{})
		if err != nil || !bytes.Equal(in[:n], tc.want) {
			t.Errorf("%s: %x, want %x: %v", tc.name, in[:n], tc.want, err)
		}
	}
	_, err := spc.ModeSense([]byte{0x1a, 0, 0xcf, 0, 255, 0}, nil, 0, 0, nil, pages(), spc.Answers{})
	says(t, err, 0x3900)
	_, err = spc.ModeSense([]byte{0x1a, 0, 0x10, 0, 255, 0}, nil, 0, 0, nil, pages(), spc.Answers{})
	says(t, err, 0x2400)
}

func selected(list ...byte) (*spc.Selection, error) {
	return spc.ModeSelect([]byte{0x15, 0x10, 0, 0, byte(len(list)), 0}, list, pages())
}

func TestOnlyWhatCanBeChangedIs(t *testing.T) {
	s, err := selected(0, 0, 0x10, 8, 0, 0, 0, 0, 0, 0, 2, 0, 0x0f, 2, 0xc0, 0x10, 0x50, 1, 0, 3, 0, 0, 9)
	if err != nil || s.Specific != 0x10 || len(s.Descriptor) != 8 || len(s.Pages) != 2 || s.Pages[0].Body[0] != 0xc0 || s.Pages[1].Body[2] != 9 {
		t.Fatalf("%+v, %v", s, err)
	}
	for _, tc := range []struct {
		name string
		code uint16
		list []byte
	}{
		{"a bit that stays", 0x2600, []byte{0, 0, 0, 0, 0x0f, 2, 0x40, 0x11}},
		{"a page that stays", 0x2600, []byte{0, 0, 0, 0, 0x02, 4, 1, 2, 3, 5}},
		{"another length", 0x2600, []byte{0, 0, 0, 0, 0x0f, 1, 0x40}},
		{"an unknown page", 0x2600, []byte{0, 0, 0, 0, 0x11, 1, 0}},
		{"half a page", 0x1a00, []byte{0, 0, 0, 0, 0x0f, 2, 0x40}},
		{"half a header", 0x1a00, []byte{0, 0, 0, 0, 0x50, 1}},
		{"an odd descriptor", 0x2600, []byte{0, 0, 0, 5, 0, 0, 0, 0, 0}},
		{"half a descriptor", 0x1a00, []byte{0, 0, 0, 8, 0, 0}},
		{"no header", 0x1a00, []byte{0, 0}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := selected(tc.list...)
			says(t, err, tc.code)
		})
	}
	_, err = spc.ModeSelect([]byte{0x15, 0x11, 0, 0, 4, 0}, make([]byte, 4), pages())
	says(t, err, 0x2400)
}

func TestALogPageIsCutAndPointedInto(t *testing.T) {
	list := []spc.LogPage{{Code: 0x0c, Params: func() []spc.Parameter {
		return []spc.Parameter{spc.Count(1, 0x0102, 2), spc.List(5, []byte{9})}
	}}}
	sense := func(cdb ...byte) []byte {
		t.Helper()
		in := make([]byte, 64)
		n, err := spc.LogSense(cdb, in, list, spc.Answers{})
		if err != nil {
			t.Fatal(err)
		}
		return in[:n]
	}
	for _, tc := range []struct{ got, want []byte }{
		{sense(0x4d, 0, 0x4c, 0, 0, 0, 0, 0, 64, 0), []byte{0x0c, 0, 0, 11, 0, 1, 0, 2, 1, 2, 0, 5, 3, 1, 9}},
		{sense(0x4d, 0, 0x4c, 0, 0, 0, 2, 0, 64, 0), []byte{0x0c, 0, 0, 5, 0, 5, 3, 1, 9}},
		{sense(0x4d, 0, 0x4c, 0, 0, 0, 0, 0, 6, 0), []byte{0x0c, 0, 0, 11, 0, 1}},
		{sense(0x4d, 0, 0x40, 0, 0, 0, 0, 0, 64, 0), []byte{0, 0, 0, 2, 0, 0x0c}},
		{sense(0x4d, 0, 0x40, 0xff, 0, 0, 0, 0, 64, 0), []byte{0x40, 0xff, 0, 4, 0, 0, 0x0c, 0}},
	} {
		if !bytes.Equal(tc.got, tc.want) {
			t.Errorf("%x, want %x", tc.got, tc.want)
		}
	}
	for _, cdb := range [][]byte{{0x4d, 0, 0x4d, 0, 0, 0, 0, 0, 64, 0}, {0x4d, 0, 0x4c, 0, 0, 0, 6, 0, 64, 0}, {0x4d, 1, 0x4c, 0, 0, 0, 0, 0, 64, 0}} {
		_, err := spc.LogSense(cdb, nil, list, spc.Answers{})
		says(t, err, 0x2400)
	}
}

func TestAnAttentionIsToldOnce(t *testing.T) {
	var a spc.Attentions
	a.Add(spc.MediumChanged)
	a.Add(spc.PowerOn) // what was before does not count any more
	a.Add(spc.ModeChanged)
	a.Add(spc.ModeChanged)
	for _, want := range []uint16{spc.PowerOn, spc.ModeChanged} {
		if s := a.Next(); s == nil || !s.Says(scsi.UnitAttention, want) {
			t.Fatalf("%v, want %04x", s, want)
		}
	}
	if s := a.Next(); s != nil {
		t.Fatalf("it goes on: %v", s)
	}
}

// FuzzModeSelect: what is taken has the form of the unit's pages.
func FuzzModeSelect(f *testing.F) {
	f.Add([]byte{0, 0, 0x10, 8, 0, 0, 0, 0, 0, 0, 2, 0, 0x0f, 2, 0xc0, 0x10, 0x50, 1, 0, 3, 0, 0, 9})
	f.Fuzz(func(t *testing.T, list []byte) {
		list = list[:min(len(list), 255)]
		s, err := selected(list...)
		if err != nil || s == nil {
			return
		}
		if n := len(s.Descriptor); n != 0 && n != 8 {
			t.Fatalf("a descriptor of %d bytes", n)
		}
		for _, p := range s.Pages {
			ok := false
			for _, have := range pages() {
				ok = ok || have.Code == p.Code && have.Sub == p.Sub && len(have.Body) == len(p.Body)
			}
			if !ok {
				t.Fatalf("page %x/%x of %d bytes was taken", p.Code, p.Sub, len(p.Body))
			}
		}
	})
}
