package media

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/confdir"
)

// The cases of proxmox-backup: src/tape/test/.

func TestPoolWithoutMediaGivesNone(t *testing.T) {
	f := newFixture(t)
	f.wantNext(f.write(pool(t, "continue", "keep"), "", 10), 10, uuid.Nil)
}

func TestMediumIsWrittenUntilItIsFull(t *testing.T) {
	f := newFixture(t)
	one := f.medium("tape1", "p1", nil, 0)
	two := f.medium("tape2", "p1", nil, 1)
	w := f.write(pool(t, "continue", "keep"), "", 10)
	f.wantNext(w, 10, one)
	f.wantNext(w, 11, one)
	f.status(one, Full)
	f.wantNext(w, 12, two)
	f.status(two, Full)
	f.wantNext(w, 13, uuid.Nil)
	media, err := w.Media()
	if err != nil || len(media) != 2 || media[0].Set.Seq != 0 || media[1].Set.Seq != 1 || media[1].Set.Ctime != 12 {
		t.Fatalf("%+v, %v", media, err)
	}
}

func TestExpiredMediumComesBackInANewSet(t *testing.T) {
	f := newFixture(t)
	one := f.medium("tape1", "p1", nil, 0)
	p := pool(t, "always", "12s")
	w := f.write(p, "", 10)
	f.wantNext(w, 10, one)
	f.wantNext(w, 13, one)
	f.status(one, Full)
	f.wantNext(w, 15, uuid.Nil)
	old := w.Set()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w.unlock = nil
	w = f.write(p, "", 20)
	if w.Set() == old || w.NewSet() == "" {
		t.Fatal("no new set was begun")
	}
	f.wantNext(w, 20, uuid.Nil)
	f.wantNext(w, 21, uuid.Nil)
	f.wantNext(w, 22, one)
	if m := f.find(one); m.Set.UUID != w.Set() || m.Status != "" || m.Set.Ctime != 22 {
		t.Fatalf("%+v", m)
	}
}

func TestStatusOfMediaOfAPool(t *testing.T) {
	f := newFixture(t)
	current := uuid.New()
	want := map[uuid.UUID]Status{
		f.medium("tape1", "p1", nil, 0):                                Writable,
		f.medium("tape2", "p1", setLabel("p1", uuid.New(), 0, 10), 0):  Full,
		f.medium("tape3", "p1", setLabel("p1", uuid.New(), 0, 20), 0):  Full,
		f.medium("tape4", "p1", setLabel("p1", current, 0, 30), 0):     Full,
		f.medium("tape5", "p1", setLabel("p1", current, 1, 35), 0):     Writable,
		f.medium("tape6", "", setLabel("p1", uuid.Nil, 0, 5), 0):       Writable,
		f.medium("tape7", "p2", setLabel("p2", uuid.New(), 0, 100), 0): Unknown,
	}
	damaged := f.medium("tape8", "p1", nil, 0)
	f.status(damaged, Damaged)
	want[damaged] = Damaged
	v, err := newView(f.inventory(), pool(t, "always", "keep"), "", time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	for id, st := range want {
		if m := f.find(id); v.Status(m) != st {
			t.Errorf("%s is %s, want %s", m.Label.Text, v.Status(m), st)
		}
	}
	if len(v.Media()) != 7 {
		t.Errorf("the pool has %d media", len(v.Media()))
	}
}

func TestSetsExpireByCalendarAndRetention(t *testing.T) {
	f := newFixture(t)
	zero := f.medium("tape0", "p1", setLabel("p1", uuid.New(), 0, 0), 0)
	one := f.medium("tape1", "p1", setLabel("p1", uuid.New(), 0, 60), 0)
	two := f.medium("tape2", "p1", setLabel("p1", uuid.New(), 0, 120), 0)
	for _, tc := range []struct {
		name, allocation, retention string
		zero, one, two              int64 // when they expire
	}{
		{"with an event and a span", "*:0/2", "120 seconds", 180, 240, never},
		{"with an event, at once", "*:0/2", "overwrite", 60, 120, never},
		{"with a set for each backup", "always", "120 seconds", 120, 180, never},
		{"in one set after the other", "continue", "120 seconds", 180, 240, never},
		{"never", "always", "keep", never, never, never},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v, err := newView(f.inventory(), pool(t, tc.allocation, tc.retention), "", time.UTC)
			if err != nil {
				t.Fatal(err)
			}
			for id, want := range map[uuid.UUID]int64{zero: tc.zero, one: tc.one, two: tc.two} {
				m := f.find(id)
				if want != never && (v.Expired(m, at(want-1)) || !v.Expired(m, at(want))) {
					t.Errorf("%s does not expire at %d", m.Label.Text, want)
				}
				if want == never && v.Expired(m, at(1<<40)) {
					t.Errorf("%s expires", m.Label.Text)
				}
			}
		})
	}
}

func TestLastSetExpiresByTheCalendarAlone(t *testing.T) {
	f := newFixture(t)
	m := f.find(f.medium("tape0", "p1", setLabel("p1", uuid.New(), 0, 30), 0))
	for allocation, want := range map[string]int64{"*:0/2": 120 + 60, "always": 30 + 60, "continue": never} {
		if got := f.inventory().expires(m, pool(t, allocation, "60s"), time.UTC); got != want {
			t.Errorf("%s: %d, want %d", allocation, got, want)
		}
	}
	if got := f.inventory().expires(m, pool(t, "always", "292y"), time.UTC); got <= 0 {
		t.Errorf("a long span ends at %d", got)
	}
}

func TestCurrentSetIsUsable(t *testing.T) {
	set := uuid.New()
	for _, tc := range []struct {
		name    string
		media   func(f fixture)
		changer string
		last    bool
		broken  bool
	}{
		{"without media", func(fixture) {}, "", false, false},
		{"with a free medium only", func(f fixture) { f.medium("tape1", "p1", nil, 0) }, "", false, false},
		{"offline, for a changer", func(f fixture) { f.medium("tape1", "p1", setLabel("p1", set, 0, 0), 0) }, "changer1", false, false},
		{"offline, for a drive", func(f fixture) { f.medium("tape1", "p1", setLabel("p1", set, 0, 0), 0) }, "", true, false},
		{"in another changer", func(f fixture) {
			f.location(f.medium("tape1", "p1", setLabel("p1", set, 0, 0), 0), "online-changer2")
		}, "changer1", false, false},
		{"in its changer", func(f fixture) {
			f.location(f.medium("tape1", "p1", setLabel("p1", set, 0, 0), 0), "online-changer1")
		}, "changer1", true, false},
		{"in a changer, for a drive without", func(f fixture) {
			f.location(f.medium("tape1", "p1", setLabel("p1", set, 0, 0), 0), "online-changer1")
		}, "", false, false},
		{"in a vault", func(f fixture) {
			f.location(f.medium("tape1", "p1", setLabel("p1", set, 0, 0), 0), "vault-safe")
		}, "", false, true},
		{"with two media", func(f fixture) {
			f.medium("tape1", "p1", setLabel("p1", set, 0, 0), 0)
			f.medium("tape2", "p1", setLabel("p1", set, 1, 1), 0)
		}, "", true, false},
		{"with its first medium missing", func(f fixture) { f.medium("tape2", "p1", setLabel("p1", set, 1, 1), 0) }, "", false, true},
		{"with a damaged medium", func(f fixture) {
			f.status(f.medium("tape1", "p1", setLabel("p1", set, 0, 0), 0), Damaged)
			f.medium("tape2", "p1", setLabel("p1", set, 1, 1), 0)
		}, "", false, true},
		{"with another key", func(f fixture) {
			l := setLabel("p1", set, 0, 0)
			l.Key = fingerprint(1)
			f.medium("tape1", "p1", l, 0)
		}, "", false, true},
		{"with a medium that became full", func(f fixture) {
			f.status(f.medium("tape1", "p1", setLabel("p1", set, 0, 0), 0), Full)
		}, "", false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			tc.media(f)
			v, err := newView(f.inventory(), pool(t, "always", "keep"), tc.changer, time.UTC)
			if err != nil {
				t.Fatal(err)
			}
			last, err := v.usable()
			if last != tc.last || (err != nil) != tc.broken {
				t.Fatalf("last %v, %v; want %v, broken %v", last, err, tc.last, tc.broken)
			}
		})
	}
}

func TestMediaAreTakenInTheirOrder(t *testing.T) {
	f := newFixture(t)
	p := pool(t, "always", "overwrite")
	order := []uuid.UUID{
		f.medium("emptyold", "p1", nil, 5),
		f.medium("emptynewA", "p1", nil, 7),
		f.medium("emptynewB", "p1", nil, 7),
		f.medium("expiredold", "p1", setLabel("p1", uuid.New(), 0, 10), 9),
		f.medium("expirednew", "p1", setLabel("p1", uuid.New(), 0, 20), 1),
		f.medium("freeold", "", nil, 0),
		f.medium("freenew", "", nil, 1),
	}
	f.location(f.medium("vault", "p1", nil, 0), "vault-safe")
	f.location(f.medium("elsewhere", "", nil, 0), "online-changer1")
	f.status(f.medium("retired", "p1", nil, 0), Retired)
	f.medium("other", "p2", nil, 0)
	w := f.write(p, "", 100)
	for i, want := range order {
		now := int64(100 + i)
		v, err := w.view()
		if err != nil {
			t.Fatal(err)
		}
		guess, err := v.Next(at(now))
		if err != nil || guess.UUID() != want {
			t.Fatalf("%d: %s would be next, %v", i, guess.Label.Text, err)
		}
		f.wantNext(w, now, want)
		f.status(want, Full)
	}
	f.wantNext(w, 200, uuid.Nil)
}

func TestMediaOfASetThatIsReadAreNotOverwritten(t *testing.T) {
	f := newFixture(t)
	old := uuid.New()
	one := f.medium("tape1", "p1", setLabel("p1", old, 0, 0), 0)
	p := pool(t, "always", "overwrite")
	w := f.write(p, "", 100)
	unlock, err := f.LockSet(t.Context(), old)
	if err != nil {
		t.Fatal(err)
	}
	f.wantNext(w, 100, uuid.Nil)
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	f.wantNext(w, 100, one)
}

func TestBackupGoesOnWithTheCurrentSet(t *testing.T) {
	f := newFixture(t)
	one := f.medium("tape1", "p1", nil, 0)
	for _, tc := range []struct {
		allocation string
		now        int64
		anew       bool
	}{
		{"continue", 100, true},
		{"continue", 1000, false},
		{"*:0/2", 119, false}, // the set is from second 100
		{"*:0/2", 120, true},
	} {
		w := f.write(pool(t, tc.allocation, "overwrite"), "", tc.now)
		if (w.NewSet() != "") != tc.anew {
			t.Fatalf("%s at %d: new set %q", tc.allocation, tc.now, w.NewSet())
		}
		if !tc.anew || tc.now == 100 {
			f.wantNext(w, tc.now, one)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		w.unlock = nil
	}
	w, err := f.Write(t.Context(), pool(t, "continue", "keep"), "", at(1000), true)
	if err != nil || w.NewSet() == "" {
		t.Fatal("no new set although it was asked for", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	other := pool(t, "continue", "keep")
	other.Key = fingerprint(7)
	w, err = f.Write(t.Context(), other, "", at(1000), false)
	if err != nil || w.NewSet() == "" {
		t.Fatal("no new set although the key changed", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestLockNamesAreThoseOfPBS(t *testing.T) {
	for name, want := range map[string]string{
		".pool-daily": ".pool-daily.lck", ".pool-a.b": ".pool-a.lck", ".pool-__UNASSIGNED__": ".pool-__UNASSIGNED__.lck",
	} {
		if got := lockName(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestPoolsAreLockedOneByOne(t *testing.T) {
	f := newFixture(t)
	unlock, err := f.LockPool(t.Context(), "p1")
	if err != nil {
		t.Fatal(err)
	}
	other, err := f.LockPool(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.d.Lock(t.Context(), ".pool-p1.lck", 0); !errors.Is(err, confdir.ErrBusy) {
		t.Fatal(err)
	}
	if err := errors.Join(unlock(), other()); err != nil {
		t.Fatal(err)
	}
}
