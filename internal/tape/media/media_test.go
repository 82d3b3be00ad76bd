package media

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
)

// fixture is a state with media whose times are in seconds since the epoch.
type fixture struct {
	*State
	t testing.TB
}

func newFixture(t testing.TB) fixture {
	t.Helper()
	s, err := Open(t.TempDir(), time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	return fixture{s, t}
}

func at(sec int64) time.Time { return time.Unix(sec, 0) }

// medium stores a medium. set may be nil.
func (f fixture) medium(text, pool string, set *tapefile.SetLabel, ctime int64) uuid.UUID {
	f.t.Helper()
	l := tapefile.Label{UUID: uuid.New(), Text: text, Pool: pool, Ctime: ctime}
	if err := f.Store(f.t.Context(), l, set, false); err != nil {
		f.t.Fatal(err)
	}
	return l.UUID
}

func setLabel(pool string, id uuid.UUID, seq uint64, ctime int64) *tapefile.SetLabel {
	return &tapefile.SetLabel{Pool: pool, UUID: id, Seq: seq, Ctime: ctime}
}

func (f fixture) inventory() *Inventory {
	f.t.Helper()
	inv, err := f.Inventory()
	if err != nil {
		f.t.Fatal(err)
	}
	return inv
}

func (f fixture) find(id uuid.UUID) Medium {
	f.t.Helper()
	m, err := f.inventory().Find(id)
	if err != nil {
		f.t.Fatal(err)
	}
	return m
}

func (f fixture) status(id uuid.UUID, st Status) {
	f.t.Helper()
	if err := f.SetStatus(f.t.Context(), id, st); err != nil {
		f.t.Fatal(err)
	}
}

func (f fixture) location(id uuid.UUID, s string) {
	f.t.Helper()
	l, err := ParseLocation(s)
	if err == nil {
		err = f.SetLocation(f.t.Context(), id, l)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// pool is the pool p1 with policies in words.
func pool(t testing.TB, allocation, retention string) Pool {
	t.Helper()
	a, err := ParseAllocation(allocation)
	if err != nil {
		t.Fatal(err)
	}
	r, err := ParseRetention(retention)
	if err != nil {
		t.Fatal(err)
	}
	return Pool{Name: "p1", Allocation: a, Retention: r}
}

func (f fixture) write(p Pool, changer string, now int64) *Writing {
	f.t.Helper()
	w, err := f.Write(f.t.Context(), p, changer, at(now), false)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		if w.unlock != nil {
			_ = w.Close()
		}
	})
	return w
}

// next is the medium that a backup gets, zero for none.
func (f fixture) next(w *Writing, now int64) uuid.UUID {
	f.t.Helper()
	m, _, err := w.Next(f.t.Context(), at(now))
	if errors.Is(err, ErrNoMedia) {
		return uuid.Nil
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return m.UUID()
}

func (f fixture) wantNext(w *Writing, now int64, want uuid.UUID) {
	f.t.Helper()
	if got := f.next(w, now); got != want {
		f.t.Fatalf("at %d the next medium is %s, want %s", now, got, want)
	}
}

func fingerprint(b byte) (f chunkcrypt.Fingerprint) {
	f[0] = b
	return f
}
