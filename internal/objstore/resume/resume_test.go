package resume_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/mem"
	"github.com/holdfast-backup/holdfast/internal/objstore/resume"
)

// breaking is a store whose bodies break off after so many bytes each.
type breaking struct {
	objstore.Store
	after []int64 // of each Get; the last one counts for all that follow
	gets  []int64 // where they began
	open  int
}

var errLine = errors.New("connection reset by peer")

func (s *breaking) Get(ctx context.Context, key string, off, n int64) (objstore.Object, error) {
	o, err := s.Store.Get(ctx, key, off, n)
	if err != nil {
		return o, err
	}
	after := s.after[min(len(s.gets), len(s.after)-1)]
	s.gets = append(s.gets, off)
	s.open++
	o.ReadCloser = body{io.MultiReader(io.LimitReader(o.ReadCloser, after), iotest.ErrReader(errLine)), s}
	return o, nil
}

type body struct {
	io.Reader
	s *breaking
}

func (b body) Close() error {
	b.s.open--
	return nil
}

func store(t *testing.T, data []byte, after ...int64) *breaking {
	t.Helper()
	m := mem.New(time.Now, false)
	if _, err := m.Put(t.Context(), "o", bytes.NewReader(data), objstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	return &breaking{Store: m, after: after}
}

func TestWhatBreaksIsReadOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := store(t, []byte("0123456789"), 3, 0, 2, 100)
		p := make([]byte, 8)
		if err := resume.Fetch(t.Context(), s, "o", p, 1); err != nil || string(p) != "12345678" {
			t.Errorf("%q, %v", p, err)
		}
		if want := []int64{1, 4, 4, 6}; !equal(s.gets, want) || s.open != 0 {
			t.Errorf("asked for at %v, want %v; %d are open", s.gets, want, s.open)
		}
	})
}

func equal(a, b []int64) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestTriesThatBringNothingAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := store(t, []byte("0123456789"), 1, 1, 0)
		p := make([]byte, 10)
		if err := resume.Fetch(t.Context(), s, "o", p, 0); !errors.Is(err, errLine) || len(s.gets) != 2+resume.Tries-1 || s.open != 0 {
			t.Errorf("after %d gets: %v; %d are open", len(s.gets), err, s.open)
		}
		s = store(t, bytes.Repeat([]byte("x"), 100), 1)
		if err := resume.Fetch(t.Context(), s, "o", make([]byte, 100), 0); err != nil || len(s.gets) != 100 {
			t.Errorf("a byte at a time: %v after %d gets", err, len(s.gets))
		}
	})
}

func TestAnObjectThatIsTooShortIsToldAtOnce(t *testing.T) {
	s := store(t, []byte("0123456789"), 100)
	if err := resume.Fetch(t.Context(), s, "o", make([]byte, 4), 7); !errors.Is(err, resume.ErrShort) || s.open != 0 {
		t.Errorf("%v; %d are open", err, s.open)
	}
	if err := resume.Fetch(t.Context(), s, "p", make([]byte, 4), 7); !errors.Is(err, objstore.ErrNotFound) {
		t.Errorf("one that is not there: %v", err)
	}
	if err := resume.Fetch(t.Context(), s, "o", nil, 7); err != nil {
		t.Errorf("nothing: %v", err)
	}
}

func TestAnEndedContextEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := store(t, []byte("0123456789"), 0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		start := time.Now()
		err := resume.Fetch(ctx, s, "o", make([]byte, 4), 0)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestAWholeObjectIsReadOnUnlessItWasReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := store(t, []byte("0123456789"), 3, 100)
		r, info, err := resume.Whole(t.Context(), s, "o")
		if err != nil || info.Size != 10 {
			t.Fatalf("%+v, %v", info, err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != "0123456789" {
			t.Errorf("%q, %v", got, err)
		}
		s = store(t, []byte("0123456789"), 3, 100)
		if r, _, err = resume.Whole(t.Context(), s, "o"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Put(t.Context(), "o", bytes.NewReader([]byte("abcdefghij")), objstore.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); !errors.Is(err, resume.ErrReplaced) || string(got) != "012" {
			t.Errorf("after another was put in its place: %q, %v", got, err)
		}
		if err := r.Close(); err != nil || s.open != 0 {
			t.Errorf("%v, %d are open", err, s.open)
		}
	})
}
