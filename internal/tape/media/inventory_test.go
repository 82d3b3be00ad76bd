package media

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
)

const goldenInventory = `[
  {
    "bytes_used": 4096,
    "id": {
      "label": {
        "ctime": 1700000000,
        "label_text": "TEST01L8",
        "uuid": "01234567-89ab-cdef-0123-456789abcdef"
      },
      "media_set_label": {
        "ctime": 1700000100,
        "pool": "daily",
        "seq_nr": 0,
        "uuid": "9da37a55-aac7-4deb-91c6-482b3b675f30"
      }
    },
    "location": "online-lib1",
    "status": "full"
  },
  {
    "id": {
      "label": {
        "ctime": 1700000001,
        "label_text": "TEST02L8",
        "pool": "daily",
        "uuid": "11234567-89ab-cdef-0123-456789abcdef"
      }
    }
  }
]`

func TestInventoryIsWrittenAsItWasRead(t *testing.T) {
	inv, err := ParseInventory([]byte(goldenInventory))
	if err != nil {
		t.Fatal(err)
	}
	js, err := inv.JSON()
	if err != nil || string(js) != goldenInventory {
		t.Fatalf("%v:\n%s", err, js)
	}
	m, err := inv.FindLabel("TEST01L8")
	if err != nil || m.Status != Full || m.Location != (Location{Online, "lib1"}) || *m.Used != 4096 || m.Pool() != "daily" {
		t.Fatalf("%+v, %v", m, err)
	}
}

func TestParseInventoryRefuses(t *testing.T) {
	for name, js := range map[string]string{
		"nothing":                             "",
		"no list":                             "{}",
		"a label that leaves its directory":   `[{"id":{"label":{"ctime":1,"label_text":"../x","uuid":"01234567-89ab-cdef-0123-456789abcdef"}}}]`,
		"a location that is none":             `[{"id":{"label":{"ctime":1,"label_text":"AB","uuid":"01234567-89ab-cdef-0123-456789abcdef"}},"location":"moon"}]`,
		"a medium without label":              `[{"id":{}, "status":"full"}]`,
		"a changer that leaves its directory": `[{"id":{"label":{"ctime":1,"label_text":"AB","uuid":"01234567-89ab-cdef-0123-456789abcdef"}},"location":"online-../x"}]`,
	} {
		t.Run(name, func(t *testing.T) {
			if inv, err := ParseInventory([]byte(js)); !errors.Is(err, ErrInventory) {
				t.Fatalf("%+v, %v", inv, err)
			}
		})
	}
}

func FuzzParseInventory(f *testing.F) {
	f.Add([]byte(goldenInventory))
	f.Fuzz(func(t *testing.T, b []byte) {
		inv, err := ParseInventory(b)
		if err != nil {
			return
		}
		js, err := inv.JSON()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseInventory(js)
		if err != nil {
			t.Fatalf("%s: %v", js, err)
		}
		if back, err := again.JSON(); err != nil || string(back) != string(js) {
			t.Fatalf("%s comes back as %s, %v", js, back, err)
		}
	})
}

func TestStatusAndLocationStayUntilTheyAreChanged(t *testing.T) {
	f := newFixture(t)
	id := f.medium("tape1", "", nil, 0)
	want := func(st Status, location string) {
		t.Helper()
		if m := f.find(id); m.Status != st || m.Location.String() != location {
			t.Fatalf("status %q at %s, want %q at %s", m.Status, m.Location, st, location)
		}
	}
	want("", "offline")
	f.status(id, Full)
	want(Full, "offline")
	f.location(id, "vault-Office2")
	want(Full, "vault-Office2")
	used := int64(7)
	if err := f.SetUsed(t.Context(), id, &used); err != nil {
		t.Fatal(err)
	}
	if err := f.Store(t.Context(), f.find(id).Label, setLabel("p1", uuid.New(), 0, 1), false); err != nil {
		t.Fatal(err)
	}
	want(Full, "vault-Office2")
	if m := f.find(id); m.Used == nil || *m.Used != 7 {
		t.Fatal("the used bytes are gone")
	}
	if err := f.Store(t.Context(), f.find(id).Label, nil, true); err != nil {
		t.Fatal(err)
	}
	want("", "vault-Office2")
	f.location(id, "offline")
	want("", "offline")
}

func TestReservationStaysWhenOnlyTheLabelIsRead(t *testing.T) {
	f := newFixture(t)
	id := f.medium("tape1", "", setLabel("p1", uuid.Nil, 0, 1), 0)
	if err := f.Store(t.Context(), f.find(id).Label, nil, false); err != nil {
		t.Fatal(err)
	}
	if m := f.find(id); m.Pool() != "p1" || m.InSet() {
		t.Fatalf("%+v", m)
	}
}

func TestUnknownMediaCannotBeChanged(t *testing.T) {
	f := newFixture(t)
	if err := f.SetStatus(t.Context(), uuid.New(), Full); !errors.Is(err, ErrUnknownMedium) {
		t.Fatal(err)
	}
	if _, err := f.inventory().FindLabel("tape1"); !errors.Is(err, ErrUnknownMedium) {
		t.Fatal(err)
	}
}

func TestLabelsThatCouldNotBeReadAreNotStored(t *testing.T) {
	f := newFixture(t)
	f.medium("tape1", "", nil, 0)
	for name, err := range map[string]error{
		"label": f.Store(t.Context(), tapefile.Label{UUID: uuid.New(), Text: "a/b"}, nil, false),
		"pool":  f.Store(t.Context(), tapefile.Label{UUID: uuid.New(), Text: "tape2"}, setLabel("x y", uuid.New(), 0, 0), false),
	} {
		if !errors.Is(err, tapefile.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(f.inventory().media); n != 1 {
		t.Errorf("the inventory has %d media", n)
	}
}

func TestOneLabelTextOnTwoMediaIsTold(t *testing.T) {
	f := newFixture(t)
	f.medium("tape1", "", nil, 0)
	f.medium("tape1", "", nil, 0)
	if _, err := f.inventory().FindLabel("tape1"); !errors.Is(err, ErrAmbiguous) {
		t.Fatal(err)
	}
}

func TestForgettingAMediumTakesItsCatalogAlong(t *testing.T) {
	f := newFixture(t)
	id := f.medium("tape1", "", nil, 0)
	c, err := f.NewCatalog(f.find(id))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	m := f.find(id)
	if ok, err := f.HasCatalog(m); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if err := f.Forget(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if ok, err := f.HasCatalog(m); ok || err != nil {
		t.Fatal(ok, err)
	}
	if _, err := f.inventory().Find(id); !errors.Is(err, ErrUnknownMedium) {
		t.Fatal(err)
	}
}

func TestMediaSetsAreInOrder(t *testing.T) {
	f := newFixture(t)
	set, other := uuid.New(), uuid.New()
	third := f.medium("tape3", "p1", setLabel("p1", set, 2, 30), 0)
	first := f.medium("tape1", "p1", setLabel("p1", set, 0, 10), 0)
	second := f.medium("tape2", "p1", setLabel("p1", set, 1, 20), 0)
	lone := f.medium("tape4", "p2", setLabel("p2", other, 1, 40), 0)
	inv := f.inventory()
	s, err := inv.MediaSet(set)
	if err != nil || len(s.Members) != 3 || s.Members[0] != first || s.Members[1] != second || s.Members[2] != third {
		t.Fatalf("%+v, %v", s, err)
	}
	if start, ok := inv.Start(set); !ok || start != 10 {
		t.Fatal(start, ok)
	}
	s, err = inv.MediaSet(other)
	if err != nil || len(s.Members) != 2 || s.Members[0] != uuid.Nil || s.Last() != lone {
		t.Fatalf("%+v, %v", s, err)
	}
	if _, ok := inv.Start(other); ok {
		t.Fatal("the start of a set without its first medium is not known")
	}
	if _, err := inv.SetMedia(other); !errors.Is(err, ErrIncomplete) {
		t.Fatal(err)
	}
	if p, err := inv.SetPool(other); p != "p2" || err != nil {
		t.Fatal(p, err)
	}
	if got := inv.MediaSets(); len(got) != 2 {
		t.Fatal(got)
	}
	f.medium("tape5", "p1", setLabel("p1", set, 1, 20), 0)
	if _, err := f.inventory().MediaSet(set); err == nil {
		t.Fatal("two media with one number are no set")
	}
}

func TestCurrentSetIsTheOneThatHadAMediumAddedLast(t *testing.T) {
	f := newFixture(t)
	add := func(pool string, seq uint64, ctime int64) uuid.UUID {
		set := uuid.New()
		f.medium("tape", pool, setLabel(pool, set, seq, ctime), 0)
		return set
	}
	add("p1", 0, 10)
	add("p1", 0, 20)
	newest := add("p1", 0, 30)
	add("p2", 0, 10)
	add("p2", 0, 10)
	incomplete := add("p3", 5, 50)
	add("p3", 1, 10)
	add("p3", 0, 20)
	inv := f.inventory()
	for p, want := range map[string]uuid.UUID{"p1": newest, "p2": uuid.Nil, "p3": incomplete, "p4": uuid.Nil} {
		if got, ok := inv.Current(p); got != want || ok != (want != uuid.Nil) {
			t.Errorf("pool %s: %s, %v; want %s", p, got, ok, want)
		}
	}
}

func TestOnlineMediaFollowTheTagsOfChangers(t *testing.T) {
	f := newFixture(t)
	ids := map[string]uuid.UUID{}
	for text, location := range map[string]string{
		"here": "offline", "gone": "online-lib1", "silent": "online-lib2", "removed": "online-lib3",
		"vault1": "vault-safe", "vault2": "vault-safe",
	} {
		ids[text] = f.medium(text, "", nil, 0)
		f.location(ids[text], location)
	}
	f.medium("twice", "", nil, 0)
	f.medium("twice", "", nil, 0)
	if err := f.UpdateOnline(t.Context(), map[string][]string{
		"lib1": {"here", "vault2", "twice", "unknown"},
		"lib2": nil, // could not be asked
	}); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"here": "online-lib1", "gone": "offline", "silent": "online-lib2", "removed": "offline",
		"vault1": "vault-safe", "vault2": "online-lib1",
	} {
		if got := f.find(ids[text]).Location.String(); got != want {
			t.Errorf("%s is %s, want %s", text, got, want)
		}
	}
}

func TestSetNamesFollowTheirTemplate(t *testing.T) {
	set := uuid.MustParse("9da37a55-aac7-4deb-91c6-482b3b675f30")
	inv := &Inventory{}
	inv.put(Medium{Label: tapefile.Label{UUID: uuid.New(), Text: "tape1"}, Set: setLabel("p1", set, 0, 1700000000)})
	berlin := time.FixedZone("CET", 3600)
	for template, want := range map[string]string{
		"":             "Tue Nov 14 23:13:20 2023",
		"%Y-%m-%d":     "2023-11-14",
		"%id% of %F":   set.String() + " of 2023-11-14",
		"week %V, %%d": "week 46, %d",
	} {
		if got := inv.SetName(set, template, berlin); got != want {
			t.Errorf("%q makes %q, want %q", template, got, want)
		}
	}
	if got := inv.SetName(uuid.Nil, "%Y", berlin); got != uuid.Nil.String() {
		t.Errorf("a set without beginning is named %q", got)
	}
}

func TestStateIsPrivateAndSharedWithItsGroup(t *testing.T) {
	f := newFixture(t)
	id := f.medium("tape1", "", nil, 0)
	c, err := f.NewCatalog(f.find(id))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"inventory.json", id.String() + ".log"} {
		info, err := os.Stat(filepath.Join(f.d.(osDisk).dir, name))
		if err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}
