package mam_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-backup/holdfast/internal/tape/lto/mam"
)

func some() []mam.Raw {
	return []mam.Raw{
		{ID: 0x0000, ReadOnly: true, Value: []byte{0, 0, 0, 0, 0, 0x0b, 0x71, 0xb0}},
		{ID: 0x0401, ReadOnly: true, Format: 1, Value: append([]byte("ABC123"), bytes.Repeat([]byte(" "), 26)...)},
		{ID: 0x0406, ReadOnly: true, Format: 1, Value: []byte("20200101    ")}, // as mhvtl has it
		{ID: 0x0408, ReadOnly: true, Value: []byte{0x80}},
		{ID: 0x1234, Value: []byte("vendor")},
		mam.Text(mam.UserLabel, "Grün \x01"),
		{ID: 0x080c, Value: []byte{1, 2}},
	}
}

func TestAttributesHaveNamesAndValues(t *testing.T) {
	all, err := mam.Parse(append(mam.Append(nil, some()), 0xff, 0xff))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(some(), all); diff != "" {
		t.Error(diff)
	}
	list, odd := mam.Describe(all)
	want := []mam.Attribute{
		{ID: 0x0000, Name: "Remaining Capacity In Partition", Value: "750000"},
		{ID: 0x0401, Name: "Medium Serial Number", Value: "ABC123"},
		{ID: 0x0408, Name: "Medium Type", Value: "80"},
		{ID: 0x0803, Name: "User Medium Text Label", Value: "Grün ?"},
		{ID: 0x080c, Name: "Volume Coherency Information", Value: "0102"},
	}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Error(diff)
	}
	if want := []string{"attribute 0406 (Medium Manufacture Date) has 12 bytes, not 8"}; !cmp.Equal(odd, want) {
		t.Errorf("left out: %q", odd)
	}
}

func TestTextsAreFilledCutOrDelete(t *testing.T) {
	for _, tc := range []struct {
		id     mam.ID
		s      string
		format uint8
		want   string
	}{
		{mam.Vendor, "Holdfast", 1, "Holdfast"},
		{mam.Vendor, "Hold", 1, "Hold\x00\x00\x00\x00"},
		{mam.Vendor, "Holdfasü", 1, "Holdfas\x00"},
		{mam.Pool, "", 2, ""},
	} {
		got := mam.Text(tc.id, tc.s)
		if string(got.Value) != tc.want || got.Format != tc.format || got.ReadOnly {
			t.Errorf("%q became %+v", tc.s, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(mam.Append(nil, some()))
	f.Add([]byte{0, 0, 0, 5, 4, 1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := mam.Parse(b)
		if err != nil {
			return
		}
		again, err := mam.Parse(mam.Append(nil, all))
		if err != nil || !cmp.Equal(all, again) {
			t.Errorf("%v became %v, %v", all, again, err)
		}
		list, odd := mam.Describe(all)
		if len(list)+len(odd) > len(all) {
			t.Errorf("%d attributes of %d", len(list)+len(odd), len(all))
		}
	})
}
