package guest_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/guest"
)

func TestBitmapNamesSayWhoseAndWhen(t *testing.T) {
	o := guest.OwnerOf("dir:/backup", names.Root, group)
	b, err := guest.NewBitmap(o, 1_700_000_001, strings.NewReader("\x01\x02\x03\x04"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "holdfast-" + string(o) + "-1700000001-01020304"; string(b) != want {
		t.Errorf("name %q, want %q", b, want)
	}
	if p, err := guest.ParseBitmap(string(b)); err != nil || p != b || p.Owner() != o || p.Time() != 1_700_000_001 {
		t.Errorf("%q reads back as %q of %q at %d, %v", b, p, p.Owner(), p.Time(), err)
	}
	if o == guest.OwnerOf("dir:/backup", names.Root, names.Group{Type: names.VM, ID: "101"}) {
		t.Error("two groups have one owner")
	}
}

func TestBitmapsOfOthersAreRefused(t *testing.T) {
	for _, s := range []string{
		"", "bitmap0", "holdfast-", "virtnbdbackup.0",
		"holdfast-0123456789abcdef-1-0102030", "holdfast-0123456789abcdeF-1-01020304",
		"holdfast-0123456789abcdef-01-01020304", "holdfast-0123456789abcdef-1-01020304-", "holdfast-0123456789abcdef--1-01020304",
		"holdfast-0123456789abcdef-99999999999999999999-01020304",
	} {
		if _, err := guest.ParseBitmap(s); !errors.Is(err, guest.ErrBitmap) {
			t.Errorf("%q: err = %v", s, err)
		}
	}
}

func FuzzMark(f *testing.F) {
	f.Add([]byte(`{"version":1,"disks":{"drive-a.img.fidx":{"bitmap":"holdfast-0123456789abcdef-1700000001-01020304"}}}`))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m := manifest.New(names.Snapshot{Group: group, Time: 1_700_000_001})
		if m.SetRaw("holdfast-guest", text) != nil {
			return
		}
		const owner = "0123456789abcdef"
		mark := guest.MarkOf(m, owner)
		for _, b := range mark {
			if b.Owner() != owner || b.Time() != m.BackupTime {
				t.Fatalf("%q is believed", b)
			}
		}
		if err := mark.Put(m); err != nil {
			t.Fatal(err)
		}
		again := guest.MarkOf(m, owner)
		if len(again) != len(mark) {
			t.Fatalf("%v does not survive a round trip: %v", mark, again)
		}
	})
}
