package ledger_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/ledger"
	"github.com/holdfast-backup/holdfast/internal/objstore"
)

// aging makes n entries, a minute apart.
func aging(t *testing.T, l *ledger.Ledger, n int) {
	t.Helper()
	for range n {
		time.Sleep(time.Minute)
		if _, err := l.Update(t.Context(), set("x", fmt.Sprint(time.Now().Unix()))); err != nil {
			t.Fatal(err)
		}
	}
}

func there(t *testing.T, s objstore.Store, key string) bool {
	t.Helper()
	_, err := s.Stat(t.Context(), key)
	if err != nil && !errors.Is(err, objstore.ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

func TestTrimmingKeepsACheckpointAndWhatFollowsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLab()
		l := create(t, s, ledger.Options{Sizes: small}) // checkpoints 4 apart, 24 numbers and 10 minutes kept
		aging(t, l, 60)
		if err := l.Trim(t.Context()); err != nil {
			t.Fatal(err)
		}
		for n, want := range map[uint64]bool{1: false, 35: false, 36: false, 37: true, 61: true} {
			if got := there(t, s, key("log", n)); got != want {
				t.Errorf("entry %d is there: %v, want %v", n, got, want)
			}
		}
		for n, want := range map[uint64]bool{4: false, 32: false, 36: true, 60: true} {
			if got := there(t, s, key("state", n)); got != want {
				t.Errorf("checkpoint %d is there: %v, want %v", n, got, want)
			}
		}
		if seen := open(t, s, ledger.Options{Sizes: small}).Seen(); seen.Seq() != 61 {
			t.Errorf("seq = %d", seen.Seq())
		}
	})
}

func TestYoungEntriesAreNotTrimmedHoweverManyFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLab()
		l := create(t, s, ledger.Options{Sizes: small})
		count(t, l, 200)
		if err := l.Trim(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !there(t, s, key("log", 1)) {
			t.Error("an entry of this minute was removed")
		}
	})
}

func TestADamagedCheckpointIsNotWhatTrimmingReliesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLab()
		l := create(t, s, ledger.Options{Sizes: small})
		aging(t, l, 60)
		s.spoil(t, key("state", 36))
		if err := l.Trim(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !there(t, s, key("state", 32)) || !there(t, s, key("log", 33)) || there(t, s, key("log", 32)) {
			t.Error("the sound checkpoint before is not what was kept")
		}
	})
}

func TestWhatIsLockedStaysAndIsNoError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLab()
		l := create(t, s, ledger.Options{Sizes: small})
		aging(t, l, 60)
		if err := s.Retain(t.Context(), key("log", 5), objstore.Retention{Mode: objstore.Compliance, Until: time.Now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		if err := l.Trim(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !there(t, s, key("log", 5)) || there(t, s, key("log", 6)) {
			t.Error("not all that could be removed was")
		}
	})
}

func TestASleeperIsNotToldOfSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLab()
		l := create(t, s, ledger.Options{Sizes: small})
		still := time.Now()
		sleeper := open(t, s, ledger.Options{Sizes: small, Now: func() time.Time { return still }}) // its clock slept too
		aging(t, l, 60)
		if err := l.Trim(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := sleeper.Update(t.Context(), set("mine", "1")); !errors.Is(err, ledger.ErrUnknown) {
			t.Fatalf("err = %v, want ErrUnknown", err)
		}
		if v, err := sleeper.View(t.Context()); err != nil || v.Seq() != 61 || get(v, "mine") != "" {
			t.Fatalf("afterwards it sees entry %d, mine = %q, err = %v", v.Seq(), get(v, "mine"), err)
		}
		if n, err := sleeper.Update(t.Context(), set("mine", "2")); err != nil || n != 62 {
			t.Fatalf("entry %d, err = %v", n, err)
		}
		if seen := open(t, s, ledger.Options{Sizes: small}).Seen(); get(seen, "mine") != "2" {
			t.Fatalf("mine = %q", get(seen, "mine"))
		}
	})
}

func TestThePastIsAsItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLab()
		l := create(t, s, ledger.Options{Sizes: small})
		begin := time.Now()
		aging(t, l, 60)
		last := l.Seen()
		time.Sleep(time.Minute)
		if _, err := l.Update(t.Context(), func(tx *ledger.Tx) error { tx.Delete("meta"); tx.Delete("x"); return nil }); err != nil {
			t.Fatal(err)
		}
		for minutes, want := range map[int]uint64{0: 1, 1: 2, 30: 31, 60: 61} {
			p, err := l.Past(t.Context(), begin.Add(time.Duration(minutes)*time.Minute+time.Second))
			if err != nil || p.Seq() != want || get(p, "meta") == "" {
				t.Errorf("after %d minutes: entry %d, meta = %q, err = %v", minutes, p.Seq(), get(p, "meta"), err)
			}
		}
		if get(last, "meta") == "" || get(l.Seen(), "meta") != "" {
			t.Error("a state that was given out changed, or the newest did not")
		}
		if err := l.Trim(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Past(t.Context(), begin.Add(10*time.Minute)); !errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("what was trimmed: err = %v, want ErrNotFound", err)
		}
		if p, err := l.Past(t.Context(), begin.Add(50*time.Minute+time.Second)); err != nil || p.Seq() != 51 {
			t.Errorf("entry %d, err = %v", p.Seq(), err)
		}
	})
}
