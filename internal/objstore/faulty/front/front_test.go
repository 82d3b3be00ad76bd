package front_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/faulty"
	"github.com/holdfast-backup/holdfast/internal/objstore/faulty/front"
	"github.com/holdfast-backup/holdfast/internal/objstore/limit"
	"github.com/holdfast-backup/holdfast/internal/objstore/meter"
	"github.com/holdfast-backup/holdfast/internal/objstore/objtest"
	"github.com/holdfast-backup/holdfast/internal/objstore/resume"
	"github.com/holdfast-backup/holdfast/internal/objstore/retry"
	"github.com/holdfast-backup/holdfast/internal/objstore/s3"
)

// engine is an engine in this process with faults.
func engine(t *testing.T, seed uint64, p faulty.Plan) (*front.Front, *s3.Store) {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("bucket"); err != nil {
		t.Fatal(err)
	}
	f := front.New(gofakes3.New(backend).Server(), seed, p)
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	at, err := s3.ParseAddress("s3://bucket/p?endpoint=" + srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	s, err := s3.Open(at, s3.Options{AccessKey: "key", SecretKey: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return f, s
}

var often = retry.Options{Tries: 30, First: time.Microsecond, Longest: time.Millisecond}

func TestAnEngineWithoutFaultsKeepsWhatAnObjectStorePromises(t *testing.T) {
	objtest.Run(t, objtest.Abilities{}, func(t *testing.T) objstore.Store {
		_, s := engine(t, 1, faulty.Plan{})
		return s
	})
}

// The whole stack that commands use, with all faults but those that replay changes: the
// contract has objects that are replaced, and who does that cannot bear them.
func TestAClientSeesThroughTheFaultsOfAnEngine(t *testing.T) {
	plan := faulty.Rough
	plan.Twice, plan.Cut, plan.Busy, plan.Storm = 0, 0, 0.1, 3
	var all faulty.Counts
	objtest.Run(t, objtest.Abilities{}, func(t *testing.T) objstore.Store {
		f, s := engine(t, 5, plan)
		m := meter.New(s)
		t.Cleanup(func() {
			c, n := f.Counts(), m.Counts()
			all.Busy, all.Lost, all.Mute = all.Busy+c.Busy, all.Lost+c.Lost, all.Mute+c.Mute
			if n.Busy != int64(c.Busy) {
				t.Errorf("%d refusals were made, %d counted", c.Busy, n.Busy)
			}
		})
		return retry.New(limit.New(m, limit.Usual), often)
	})
	if all.Busy == 0 || all.Lost == 0 || all.Mute == 0 {
		t.Errorf("there were no faults of some kind: %+v", all)
	}
}

// What a repository does: objects that are created once, read and removed.
func TestObjectsThatAreNeverReplacedBearEveryFault(t *testing.T) {
	plan := faulty.Rough
	plan.Delay = time.Millisecond
	f, s := engine(t, 3, plan)
	r := retry.New(s, often)
	ctx := t.Context()
	bodies := rand.NewChaCha8([32]byte{2})
	for i := range 40 {
		key, body := fmt.Sprint("o", i), make([]byte, 1000*i)
		_, _ = bodies.Read(body)
		if _, err := r.Put(ctx, key, bytes.NewReader(body), objstore.PutOptions{If: objstore.IfAbsent}); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(body))
		if err := resume.Fetch(ctx, r, key, got, 0); err != nil || !bytes.Equal(got, body) {
			t.Fatalf("%s: %v, or other bytes", key, err)
		}
		if i%2 == 0 {
			continue
		}
		if err := r.Delete(ctx, []string{key}); err != nil {
			t.Fatal(err)
		}
	}
	f.Calm(ctx)
	if c := f.Counts(); c.Busy == 0 || c.Lost == 0 || c.Mute == 0 || c.Twice == 0 || c.Cut == 0 {
		t.Errorf("there were no faults of some kind: %+v", c)
	}
	for i := 0; i < 40; i += 2 {
		if st, err := r.Stat(ctx, fmt.Sprint("o", i)); err != nil || st.Size != int64(1000*i) {
			t.Errorf("o%d: %+v, %v", i, st, err)
		}
	}
}

func TestARepeatedPutThatWasDoneIsNotDoneAgain(t *testing.T) {
	f, s := engine(t, 1, faulty.Plan{Mute: 0.5})
	r := retry.New(s, often)
	for i := range 6 {
		if _, err := r.Put(t.Context(), fmt.Sprint(i), bytes.NewReader([]byte{byte(i)}), objstore.PutOptions{If: objstore.IfAbsent}); err != nil {
			t.Fatal(err)
		}
		_, err := r.Put(t.Context(), fmt.Sprint(i), bytes.NewReader([]byte("other")), objstore.PutOptions{If: objstore.IfAbsent})
		if !errors.Is(err, objstore.ErrPrecondition) {
			t.Errorf("another put: %v", err)
		}
	}
	if f.Counts().Mute == 0 {
		t.Error("no answer got lost")
	}
}

func TestAListingMayBeFromBefore(t *testing.T) {
	f, s := engine(t, 1, faulty.Plan{Stale: 0.5, Lag: 3})
	older := 0
	for i := range 30 {
		if _, err := s.Put(t.Context(), fmt.Sprintf("%02d", i), bytes.NewReader(nil), objstore.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		list, _, err := s.List(t.Context(), "", "", 100)
		if err != nil || len(list) < i-2 || len(list) > i+1 {
			t.Fatalf("after %d: %d, %v", i+1, len(list), err)
		}
		if len(list) <= i {
			older++
		}
	}
	if older == 0 || older != f.Counts().Stale {
		t.Errorf("%d listings were old, %d were meant to be", older, f.Counts().Stale)
	}
}
