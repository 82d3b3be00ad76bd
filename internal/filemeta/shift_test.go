package filemeta

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// up and down move the ids of a container with 65536 of them, from 100000 on.
func up(id uint32) (uint32, bool)   { return id + 100000, id < 65536 }
func down(id uint32) (uint32, bool) { return id - 100000, id >= 100000 && id < 165536 }

const (
	caps2 = "01000002 00200000 00000000 00000000 00000000"
	caps3 = "01000003 00200000 00000000 00000000 00000000 a0860100"
)

func TestIDsOfEverythingAreShiftedAndBack(t *testing.T) {
	m := pxar.Metadata{
		UID: 0, GID: 42,
		ACL: &pxar.ACL{
			Users: []pxar.ACLEntry{{ID: 1, Perm: 7}}, Groups: []pxar.ACLEntry{{ID: 2, Perm: 6}}, GroupObj: new(pxar.Perm(5)),
			DefaultUsers: []pxar.ACLEntry{{ID: 3, Perm: 1}}, DefaultGroups: []pxar.ACLEntry{{ID: 4, Perm: 2}},
		},
		FCaps: unhex(t, caps2),
	}
	was := m
	old := *m.ACL
	if lost := Shift(&m, up, up); lost != 0 {
		t.Fatalf("lost %v", lost)
	}
	want := pxar.Metadata{
		UID: 100000, GID: 100042,
		ACL: &pxar.ACL{
			Users: []pxar.ACLEntry{{ID: 100001, Perm: 7}}, Groups: []pxar.ACLEntry{{ID: 100002, Perm: 6}}, GroupObj: new(pxar.Perm(5)),
			DefaultUsers: []pxar.ACLEntry{{ID: 100003, Perm: 1}}, DefaultGroups: []pxar.ACLEntry{{ID: 100004, Perm: 2}},
		},
		FCaps: unhex(t, caps3),
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	if !old.Equal(was.ACL) || !bytes.Equal(was.FCaps, unhex(t, caps2)) {
		t.Error("what m pointed to has changed")
	}
	if lost := Shift(&m, down, down); lost != 0 || !m.Equal(&was) {
		t.Errorf("back: %v\n%s", lost, cmp.Diff(was, m))
	}
}

func TestIDsWithoutCounterpartAreSaid(t *testing.T) {
	m := pxar.Metadata{
		UID: 5, GID: 100000,
		ACL:   &pxar.ACL{Users: []pxar.ACLEntry{{ID: 5, Perm: 7}, {ID: 100001, Perm: 6}, {ID: 1 << 33}}, GroupObj: new(pxar.Perm)},
		FCaps: unhex(t, caps2),
	}
	lost := Shift(&m, down, down)
	if lost != SetOf(Owner, ACLs, FCaps) || m.UID != 5 || m.GID != 100000 || m.FCaps != nil {
		t.Errorf("lost %b, left %+v", lost, m)
	}
	want := &pxar.ACL{Users: []pxar.ACLEntry{{ID: 1, Perm: 6}}, GroupObj: new(pxar.Perm)}
	if diff := cmp.Diff(want, m.ACL); diff != "" {
		t.Errorf("the rest of the ACL (-want +got):\n%s", diff)
	}
}

func TestCapabilitiesWithoutRootStayOnTheWayIn(t *testing.T) {
	for _, tc := range []struct {
		name, caps, want string
		lost             Set
	}{
		{"no root", caps2, caps2, 0},
		{"the container's root", caps3, caps2, 0},
		{"another root of the container", "01000003 00200000 00000000 00000000 00000000 a1860100", "01000003 00200000 00000000 00000000 00000000 01000000", 0},
		{"a root elsewhere", "01000003 00200000 00000000 00000000 00000000 01000000", "", SetOf(FCaps)},
	} {
		m := pxar.Metadata{UID: 100000, GID: 100000, FCaps: unhex(t, tc.caps)}
		if lost := ShiftIn(&m, down, down); lost != tc.lost || !bytes.Equal(m.FCaps, unhex(t, tc.want)) {
			t.Errorf("%s: lost %b, %x, want %s", tc.name, lost, m.FCaps, tc.want)
		}
	}
}

func TestShiftedEntriesStayInOrder(t *testing.T) {
	swap := func(id uint32) (uint32, bool) { return 100 - id, true }
	m := pxar.Metadata{ACL: &pxar.ACL{Groups: []pxar.ACLEntry{{ID: 1, Perm: 1}, {ID: 2, Perm: 2}}}}
	Shift(&m, swap, swap)
	want := []pxar.ACLEntry{{ID: 98, Perm: 2}, {ID: 99, Perm: 1}}
	if diff := cmp.Diff(want, m.ACL.Groups); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCapabilitiesOfUnknownFormAreNotTouched(t *testing.T) {
	for _, text := range []string{"", "01000001 00200000 00000000", "01000004 00200000 00000000 00000000 00000000", caps3 + "00"} {
		b := unhex(t, text)
		if got, ok := shiftCaps(b, up); !ok || !bytes.Equal(got, b) {
			t.Errorf("%s: %x, %v", text, got, ok)
		}
	}
}
