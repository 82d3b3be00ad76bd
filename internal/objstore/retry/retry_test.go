package retry_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/mem"
	"github.com/holdfast-backup/holdfast/internal/objstore/objtest"
	"github.com/holdfast-backup/holdfast/internal/objstore/retry"
)

// trouble is a store whose n-th Put, from 1, goes wrong as told.
type trouble struct {
	objstore.Store
	puts  int
	at    map[int]error
	after map[int]bool // the Put was done, its answer got lost
}

var errLine = errors.New("connection reset by peer")

func (s *trouble) Put(ctx context.Context, key string, body objstore.Body, o objstore.PutOptions) (objstore.Info, error) {
	s.puts++
	err := s.at[s.puts]
	if err != nil && !s.after[s.puts] {
		return objstore.Info{}, err
	}
	i, perr := s.Store.Put(ctx, key, body, o)
	return i, errors.Join(err, perr)
}

func newTrouble() *trouble {
	return &trouble{Store: mem.New(time.Now, true), at: map[int]error{}, after: map[int]bool{}}
}

func TestAStoreThatTriesAgainKeepsWhatAnObjectStorePromises(t *testing.T) {
	objtest.Run(t, objtest.Abilities{IfTag: true, Lock: true}, func(*testing.T) objstore.Store {
		return retry.New(mem.New(time.Now, true), retry.Usual)
	})
}

func TestALostAnswerToAConditionalPutIsASuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTrouble()
		s.at[1], s.after[1] = errLine, true
		r := retry.New(s, retry.Usual)
		i, err := r.Put(t.Context(), "o", strings.NewReader("mine"), objstore.PutOptions{If: objstore.IfAbsent})
		if err != nil {
			t.Fatal(err)
		}
		if st, err := s.Stat(t.Context(), "o"); err != nil || st.Tag != i.Tag {
			t.Errorf("the put said %+v, there is %+v, %v", i, st, err)
		}
		if r.Retries() != 1 {
			t.Errorf("%d repetitions", r.Retries())
		}
	})
}

func TestAConditionalPutDoesNotTakeAnothersObjectForItsOwn(t *testing.T) {
	for _, other := range []string{"his!", "longer than mine"} {
		synctest.Test(t, func(t *testing.T) {
			s := newTrouble()
			s.at[1] = errLine
			if _, err := s.Store.Put(t.Context(), "o", strings.NewReader(other), objstore.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			if _, err := retry.New(s, retry.Usual).Put(t.Context(), "o", strings.NewReader("mine"), objstore.PutOptions{If: objstore.IfAbsent}); !errors.Is(err, objstore.ErrPrecondition) {
				t.Errorf("err = %v, want ErrPrecondition", err)
			}
		})
	}
}

// A store that is busy did nothing, so what is there under the condition is
// another's, though it has the same bytes.
func TestABusyStoreLeavesNoDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTrouble()
		s.at[1] = &objstore.BusyError{After: 30 * time.Second, Err: errors.New("slow down")}
		if _, err := s.Store.Put(t.Context(), "o", strings.NewReader("mine"), objstore.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := retry.New(s, retry.Usual).Put(t.Context(), "o", strings.NewReader("mine"), objstore.PutOptions{If: objstore.IfAbsent}); !errors.Is(err, objstore.ErrPrecondition) {
			t.Errorf("err = %v, want ErrPrecondition", err)
		}
		if waited := time.Since(start); waited < 30*time.Second {
			t.Errorf("it waited %v, it was told to wait 30 s", waited)
		}
	})
}

func TestTroubleThatStaysIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTrouble()
		for i := range 20 {
			s.at[i] = errLine
		}
		_, err := retry.New(s, retry.Options{Tries: 5, First: time.Second, Longest: 2 * time.Second}).Put(t.Context(), "o", strings.NewReader("x"), objstore.PutOptions{})
		if !errors.Is(err, errLine) || !strings.Contains(err.Error(), "5 times") || s.puts != 5 {
			t.Errorf("%d tries, err = %v", s.puts, err)
		}
	})
}

func TestAnAnswerIsNotAskedForAgain(t *testing.T) {
	s := newTrouble()
	s.at[1] = objstore.ErrDenied
	if _, err := retry.New(s, retry.Usual).Put(t.Context(), "o", strings.NewReader("x"), objstore.PutOptions{}); !errors.Is(err, objstore.ErrDenied) || s.puts != 1 {
		t.Errorf("%d tries, err = %v", s.puts, err)
	}
}

func TestAnEndedContextEndsTheWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTrouble()
		s.at[1] = errLine
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := retry.New(s, retry.Options{Tries: 3, First: time.Hour, Longest: time.Hour}).Put(ctx, "o", strings.NewReader("x"), objstore.PutOptions{})
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errLine) || time.Since(start) != time.Millisecond {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}
