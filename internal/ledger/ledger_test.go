package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/ledger"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/mem"
)

// lab is a store that counts requests and fails as it is told.
type lab struct {
	*mem.Store
	mu   sync.Mutex
	asks map[string]int
	fail func(op, key string) error
	any  bool // conditions are not looked at
}

func newLab() *lab { return &lab{Store: mem.New(time.Now, true), asks: map[string]int{}} }

func (s *lab) ask(op, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asks[op]++
	if s.fail == nil {
		return nil
	}
	return s.fail(op, key)
}

// asked is how many requests there were since the last time.
func (s *lab) asked() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for op := range s.asks {
		n += s.asks[op]
	}
	clear(s.asks)
	return n
}

func (s *lab) Get(ctx context.Context, key string, off, n int64) (objstore.Object, error) {
	if err := s.ask("get", key); err != nil {
		return objstore.Object{}, err
	}
	return s.Store.Get(ctx, key, off, n)
}

func (s *lab) Put(ctx context.Context, key string, body objstore.Body, o objstore.PutOptions) (objstore.Info, error) {
	if err := s.ask("put", key); err != nil {
		return objstore.Info{}, err
	}
	if s.any {
		o.If = objstore.Condition{}
	}
	return s.Store.Put(ctx, key, body, o)
}

func (s *lab) List(ctx context.Context, prefix, after string, limit int) ([]objstore.Info, bool, error) {
	if err := s.ask("list", prefix); err != nil {
		return nil, false, err
	}
	return s.Store.List(ctx, prefix, after, limit)
}

func (s *lab) Delete(ctx context.Context, keys []string) error {
	if err := s.ask("delete", keys[0]); err != nil {
		return err
	}
	return s.Store.Delete(ctx, keys)
}

// spoil changes an object behind everybody's back.
func (s *lab) spoil(t *testing.T, key string) {
	t.Helper()
	b, _, err := objstore.ReadAll(t.Context(), s.Store, key, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if _, err := s.Store.Put(t.Context(), key, bytes.NewReader(b), objstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

func key(prefix string, n uint64) string { return fmt.Sprintf("%s/%016x", prefix, ^n) }

func set(key, value string) func(*ledger.Tx) error {
	return func(tx *ledger.Tx) error { tx.Set(key, []byte(value)); return nil }
}

func create(t *testing.T, s objstore.Store, o ledger.Options) *ledger.Ledger {
	t.Helper()
	if err := ledger.Create(t.Context(), s, o, map[string][]byte{"meta": []byte(`{"id": 1}`)}); err != nil {
		t.Fatal(err)
	}
	return open(t, s, o)
}

func open(t *testing.T, s objstore.Store, o ledger.Options) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(t.Context(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// count makes n entries that set x.
func count(t *testing.T, l *ledger.Ledger, n int) {
	t.Helper()
	for i := range n {
		if _, err := l.Update(t.Context(), set("x", fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
}

func get(s ledger.State, key string) string { b, _ := s.Get(key); return string(b) }

func TestWhatOneWritesTheOtherReads(t *testing.T) {
	s := newLab()
	a := create(t, s, ledger.Options{Who: "a/1"})
	b := open(t, s, ledger.Options{Who: "b/1"})
	for i := range 300 {
		n, err := a.Update(t.Context(), set("x", fmt.Sprint(i)))
		if err != nil || n != uint64(i)+2 {
			t.Fatalf("entry %d, err = %v", n, err)
		}
		if i%3 == 0 {
			st, err := b.View(t.Context())
			if err != nil || st.Seq() != n || get(st, "x") != fmt.Sprint(i) {
				t.Fatalf("x = %s at %d, want %d at %d, err = %v", get(st, "x"), st.Seq(), i, n, err)
			}
		}
	}
	if c := open(t, s, ledger.Options{}).Seen(); get(c, "meta") != `{"id":1}` || c.Seq() != 301 {
		t.Fatalf("meta = %s at %d", get(c, "meta"), c.Seq())
	}
}

func TestACreatedLogIsNotCreatedAgain(t *testing.T) {
	s := newLab()
	create(t, s, ledger.Options{})
	if err := ledger.Create(t.Context(), s, ledger.Options{}, nil); !errors.Is(err, ledger.ErrExists) {
		t.Fatalf("err = %v, want ErrExists", err)
	}
}

func TestAStoreWithoutALogIsNotFound(t *testing.T) {
	if _, err := ledger.Open(t.Context(), newLab(), ledger.Options{}); !errors.Is(err, ledger.ErrNotFound) {
		t.Fatalf("err = %v, want ErrNotFound", err)
	}
}

func TestAStoreThatKnowsNoConditionsIsRefusedAndLosesNothing(t *testing.T) {
	s := newLab()
	create(t, s, ledger.Options{})
	before, _, _ := s.Store.List(t.Context(), "", "", 10)
	s.any = true
	if err := ledger.Create(t.Context(), s, ledger.Options{}, nil); !errors.Is(err, ledger.ErrConditions) {
		t.Fatalf("err = %v, want ErrConditions", err)
	}
	after, _, _ := s.Store.List(t.Context(), "", "", 10)
	if fmt.Sprint(before) != fmt.Sprint(after) {
		t.Fatalf("%v became %v", before, after)
	}
}

func TestRequestsAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLab()
		l := create(t, s, ledger.Options{})
		count(t, l, 100)
		s.asked()
		for _, tc := range []struct {
			name string
			want int
			do   func() error
		}{
			{"a view of what did not change", 1, func() error { _, err := l.View(t.Context()); return err }},
			{"what was seen", 0, func() error { l.Seen(); return nil }},
			{"an update", 2, func() error { _, err := l.Update(t.Context(), set("y", "1")); return err }},
			{"an update that changes nothing", 1, func() error { _, err := l.Update(t.Context(), set("y", "1")); return err }},
			{"opening, with 39 entries behind the checkpoint", 2 + 1 + 38 + 1, func() error { _, err := ledger.Open(t.Context(), s, ledger.Options{}); return err }},
		} {
			if err := tc.do(); err != nil {
				t.Fatal(err)
			}
			if got := s.asked(); got != tc.want {
				t.Errorf("%s took %d requests, want %d", tc.name, got, tc.want)
			}
		}
	})
}

func TestWhatIsRecentIsNotAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLab()
		other := create(t, s, ledger.Options{})
		l := open(t, s, ledger.Options{})
		count(t, other, 1)
		s.asked()
		recent := func(value string, asks int) {
			t.Helper()
			state, err := l.Recent(t.Context(), time.Second)
			if err != nil || get(state, "x") != value {
				t.Errorf("x is %q, %v; want %q", get(state, "x"), err, value)
			}
			if n := s.asked(); n != asks {
				t.Errorf("the store was asked %d times, want %d", n, asks)
			}
		}
		recent("", 0)
		time.Sleep(time.Second)
		recent("0", 3) // the entry, once more in turn, and whether there is another one
		recent("0", 0)
	})
}

func TestARefusalIsReturnedAsItIsAndWritesNothing(t *testing.T) {
	l := create(t, newLab(), ledger.Options{})
	no := errors.New("no")
	n, err := l.Update(t.Context(), func(tx *ledger.Tx) error { tx.Set("y", []byte("1")); return no })
	if err != no || n != 1 || get(l.Seen(), "y") != "" { //nolint:errorlint // as it is
		t.Fatalf("entry %d, err = %v", n, err)
	}
}

func TestATransactionSeesItsOwnChanges(t *testing.T) {
	l := create(t, newLab(), ledger.Options{})
	_, err := l.Update(t.Context(), func(tx *ledger.Tx) error {
		for _, k := range []string{"p/b", "p/a", "q"} {
			tx.Set(k, []byte(`"`+k+`"`))
		}
		tx.Delete("meta")
		var keys []string
		for k := range tx.Scan("p/") {
			keys = append(keys, k)
			tx.Delete(k)
		}
		if _, there := tx.Get("meta"); there || fmt.Sprint(keys) != "[p/a p/b]" || tx.Seq() != 2 {
			return fmt.Errorf("meta is there: %v, keys are %v, number %d", there, keys, tx.Seq())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range l.Seen().Scan("") {
		if k != "q" || string(v) != `"q"` {
			t.Errorf("%s = %s is left", k, v)
		}
	}
}

func TestWhatIsNoKeyOrNoValueIsRefused(t *testing.T) {
	l := create(t, newLab(), ledger.Options{})
	for _, kv := range [][2]string{{"", "1"}, {"\xff", "1"}, {"k", ""}, {"k", "{"}, {"k", "1 2"}, {"k", "\"\xff\""}, {string(make([]byte, 5000)), "1"}} {
		if n, err := l.Update(t.Context(), set(kv[0], kv[1])); err == nil || n != 1 {
			t.Errorf("%.9q = %q became entry %d, err = %v", kv[0], kv[1], n, err)
		}
	}
}

func TestAnOlderCheckpointServesWhereOneIsDamaged(t *testing.T) {
	s := newLab()
	count(t, create(t, s, ledger.Options{}), 200)
	for _, n := range []uint64{192, 128, 64} {
		s.spoil(t, key("state", n))
		if seen := open(t, s, ledger.Options{}).Seen(); seen.Seq() != 201 || get(seen, "x") != "199" {
			t.Fatalf("x = %s at %d", get(seen, "x"), seen.Seq())
		}
	}
}

func TestADamagedEntryIsCorruptOnlyWhereItIsNeeded(t *testing.T) {
	s := newLab()
	l := create(t, s, ledger.Options{})
	count(t, l, 99)
	s.spoil(t, key("log", 50)) // before the checkpoint
	open(t, s, ledger.Options{})
	s.spoil(t, key("log", 70))
	_, err := ledger.Open(t.Context(), s, ledger.Options{})
	if _, ok := errors.AsType[*ledger.CorruptError](err); !ok {
		t.Fatalf("err = %v, want a CorruptError", err)
	}
	if _, err := l.View(t.Context()); err != nil { // it has read that one already
		t.Fatal(err)
	}
}

func TestALostEntryIsCorruptAndNotForgotten(t *testing.T) {
	s := newLab()
	count(t, create(t, s, ledger.Options{}), 99)
	if err := s.Store.Delete(t.Context(), []string{key("log", 80)}); err != nil {
		t.Fatal(err)
	}
	_, err := ledger.Open(t.Context(), s, ledger.Options{})
	if _, ok := errors.AsType[*ledger.CorruptError](err); !ok {
		t.Fatalf("err = %v, want a CorruptError", err)
	}
}

func TestAnEntryInThePlaceOfALostOneIsNoticed(t *testing.T) {
	s := newLab()
	l := create(t, s, ledger.Options{})
	count(t, l, 10)
	if err := s.Store.Delete(t.Context(), []string{key("log", 11), key("log", 10)}); err != nil {
		t.Fatal(err)
	}
	count(t, open(t, s, ledger.Options{}), 4) // they become entries 10 to 13
	_, err := l.View(t.Context())
	if _, ok := errors.AsType[*ledger.CorruptError](err); !ok {
		t.Fatalf("err = %v, want a CorruptError: the view has entries that are not there any more", err)
	}
}

func TestWhatCannotBeFoundOutIsNotCorrupt(t *testing.T) {
	s := newLab()
	count(t, create(t, s, ledger.Options{}), 70)
	broken := errors.New("the line is dead")
	for _, op := range []string{"get log/", "get state/", "list log/", "list state/"} {
		s.fail = func(o, key string) error {
			if len(o+" "+key) >= len(op) && (o + " " + key)[:len(op)] == op {
				return broken
			}
			return nil
		}
		_, err := ledger.Open(t.Context(), s, ledger.Options{})
		if _, bad := errors.AsType[*ledger.CorruptError](err); bad || !errors.Is(err, broken) || errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("%s: err = %v, want what the store said", op, err)
		}
	}
}

func TestCredentialsThatOnlyReadCanRead(t *testing.T) {
	s := newLab()
	create(t, s, ledger.Options{})
	s.fail = func(op, _ string) error {
		if op == "put" || op == "delete" {
			return objstore.ErrDenied
		}
		return nil
	}
	l := open(t, s, ledger.Options{})
	if _, err := l.View(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := l.Update(t.Context(), set("x", "1"))
	if !errors.Is(err, objstore.ErrDenied) || errors.Is(err, ledger.ErrUnknown) {
		t.Fatalf("err = %v, want ErrDenied", err)
	}
}

func TestTheEndOfAContextEndsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLab()
		l := create(t, s, ledger.Options{})
		hold := make(chan struct{})
		s.fail = func(op, _ string) error {
			if op == "put" {
				<-hold
			}
			return nil
		}
		var g sync.WaitGroup
		g.Go(func() { _, _ = l.Update(t.Context(), set("x", "1")) })
		synctest.Wait()
		enough := errors.New("enough")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, enough)
		defer cancel()
		if _, err := l.Update(ctx, set("x", "2")); !errors.Is(err, enough) {
			t.Errorf("err = %v", err)
		}
		close(hold)
		g.Wait()
	})
}

func TestAnAnswerThatNeverComesIsUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLab()
		l := create(t, s, ledger.Options{})
		broken := errors.New("the line is dead")
		s.fail = func(op, _ string) error {
			if op == "put" || op == "get" {
				return broken
			}
			return nil
		}
		if _, err := l.Update(t.Context(), set("x", "1")); !errors.Is(err, ledger.ErrUnknown) || !errors.Is(err, broken) {
			t.Fatalf("err = %v, want ErrUnknown", err)
		}
	})
}

// Another one's request that came to nothing was in the way, or a crash of the engine.
func TestAStoreThatContradictsItselfIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLab()
		l := create(t, s, ledger.Options{})
		left := 3
		s.fail = func(op, _ string) error {
			if left--; op == "put" && left >= 0 {
				return objstore.ErrPrecondition
			}
			return nil
		}
		if _, err := l.Update(t.Context(), set("x", "1")); err != nil {
			t.Fatal(err)
		}
		left = 1000
		if _, err := l.Update(t.Context(), set("x", "2")); !errors.Is(err, ledger.ErrUnknown) || !strings.Contains(err.Error(), "and that it is not") {
			t.Fatalf("it never ends: %v", err)
		}
	})
}

func TestABusyStoreChangedNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLab()
		l := create(t, s, ledger.Options{})
		s.fail = func(op, _ string) error {
			if op == "put" {
				return &objstore.BusyError{Err: errors.New("slow down")}
			}
			return nil
		}
		if _, err := l.Update(t.Context(), set("x", "1")); err == nil || errors.Is(err, ledger.ErrUnknown) {
			t.Fatalf("err = %v, want one that says that nothing was changed", err)
		}
	})
}

func TestACheckpointThatCannotBeMadeDoesNotMatter(t *testing.T) {
	s := newLab()
	l := create(t, s, ledger.Options{})
	s.fail = func(op, key string) error {
		if op == "put" && key[0] == 's' {
			return objstore.ErrDenied
		}
		return nil
	}
	count(t, l, 300)
	if seen := open(t, s, ledger.Options{}).Seen(); seen.Seq() != 301 {
		t.Fatalf("seq = %d", seen.Seq())
	}
}

func TestALocksRetentionIsOnEverything(t *testing.T) {
	s := newLab()
	until := time.Now().Add(time.Hour)
	l := create(t, s, ledger.Options{Retain: func() objstore.Retention {
		return objstore.Retention{Mode: objstore.Compliance, Until: until}
	}})
	count(t, l, 70)
	for _, k := range []string{key("log", 1), key("log", 70), key("state", 64)} {
		if err := s.Store.Delete(t.Context(), []string{k}); !errors.Is(err, objstore.ErrDenied) {
			t.Errorf("%s can be removed: %v", k, err)
		}
	}
}
