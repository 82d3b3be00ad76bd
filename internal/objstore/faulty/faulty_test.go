package faulty_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/faulty"
	"github.com/holdfast-backup/holdfast/internal/objstore/mem"
	"github.com/holdfast-backup/holdfast/internal/objstore/objtest"
	"github.com/holdfast-backup/holdfast/internal/objstore/resume"
	"github.com/holdfast-backup/holdfast/internal/objstore/retry"
)

func TestWithoutFaultsItKeepsWhatAnObjectStorePromises(t *testing.T) {
	objtest.Run(t, objtest.Abilities{IfTag: true, Lock: true}, func(*testing.T) objstore.Store {
		return faulty.New(mem.New(time.Now, true), 1, faulty.Plan{})
	})
}

func put(ctx context.Context, s objstore.Store, key, body string) error {
	_, err := s.Put(ctx, key, strings.NewReader(body), objstore.PutOptions{If: objstore.IfAbsent})
	return err
}

// Objects that are created once and read are the same through any faults.
func TestWhoTriesAgainSeesThroughAllFaults(t *testing.T) {
	var all faulty.Counts
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			plan := faulty.Rough
			plan.Delay = time.Second
			f := faulty.New(mem.New(time.Now, true), seed, plan)
			history(t, retry.New(f, retry.Options{Tries: 30, First: time.Second, Longest: time.Second}))
			c := f.Counts()
			all.Busy, all.Lost, all.Mute, all.Twice, all.Cut = all.Busy+c.Busy, all.Lost+c.Lost, all.Mute+c.Mute, all.Twice+c.Twice, all.Cut+c.Cut
		})
	}
	if all.Busy < 20 || all.Lost < 20 || all.Mute < 20 || all.Twice < 20 || all.Cut < 20 {
		t.Errorf("there were not enough faults: %+v", all)
	}
}

// history creates, removes and reads objects.
func history(t *testing.T, s objstore.Store) {
	t.Helper()
	ctx := t.Context()
	name := func(i int) (key, body string) { return fmt.Sprintf("k%02d", i), fmt.Sprintf("the body of %d", i) }
	removed := map[int]bool{}
	for i := range 40 {
		key, body := name(i)
		if err := put(ctx, s, key, body); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			removed[i/2] = true
			key, _ := name(i / 2)
			if err := s.Delete(ctx, []string{key}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range 40 {
		key, want := name(i)
		p := make([]byte, len(want))
		switch err := resume.Fetch(ctx, s, key, p, 0); {
		case removed[i] && errors.Is(err, objstore.ErrNotFound):
		case err != nil || string(p) != want:
			t.Errorf("%s: %q, %v", key, p, err)
		}
	}
}

func TestTheSameSeedMakesTheSameFaults(t *testing.T) {
	told := func(seed uint64) (out []string) {
		plan := faulty.Rough
		plan.Stale, plan.Lag = 0.5, 3
		f := faulty.New(mem.New(time.Now, true), seed, plan)
		for i := range 200 {
			err := put(t.Context(), f, fmt.Sprint(i), "x")
			list, _, lerr := f.List(t.Context(), "", "", 1000)
			out = append(out, fmt.Sprint(err, len(list), lerr))
		}
		return out
	}
	if !reflect.DeepEqual(told(7), told(7)) {
		t.Error("the same seed went otherwise")
	}
	if reflect.DeepEqual(told(7), told(8)) {
		t.Error("two seeds made the same")
	}
}

func TestAStormRefusesCallsInARow(t *testing.T) {
	f := faulty.New(mem.New(time.Now, true), 1, faulty.Plan{Busy: 0.05, Storm: 10})
	row, longest := 0, 0
	for range 1000 {
		_, err := f.Stat(t.Context(), "x")
		if _, busy := errors.AsType[*objstore.BusyError](err); busy {
			row++
		} else {
			row = 0
		}
		longest = max(longest, row)
	}
	if longest < 10 {
		t.Errorf("the longest storm refused %d calls", longest)
	}
}

func TestWhatBecameOfACallThatGotLostIsEither(t *testing.T) {
	done := map[bool]int{}
	f := faulty.New(mem.New(time.Now, true), 1, faulty.Plan{Lost: 0.3, Mute: 0.3})
	for i := range 200 {
		key := fmt.Sprint(i)
		if err := put(t.Context(), f, key, "x"); errors.Is(err, faulty.ErrLine) {
			_, err := stat(t.Context(), f, key)
			done[err == nil]++
		}
	}
	if done[true] < 20 || done[false] < 20 {
		t.Errorf("done: %v", done)
	}
}

// stat asks until it is told.
func stat(ctx context.Context, s objstore.Store, key string) (objstore.Info, error) {
	for {
		i, err := s.Stat(ctx, key)
		if !errors.Is(err, faulty.ErrLine) {
			return i, err
		}
	}
}

// Who creates, removes and does not look finds the object back.
func TestACallThatComesAgainUndoesARemoval(t *testing.T) {
	f := faulty.New(mem.New(time.Now, true), 1, faulty.Plan{Twice: 1})
	ctx := t.Context()
	if err := errors.Join(put(ctx, f, "o", "x"), f.Delete(ctx, []string{"o"})); err != nil {
		t.Fatal(err)
	}
	back := false
	for range 100 {
		_, err := f.Stat(ctx, "o")
		back = back || err == nil
	}
	if !back {
		t.Error("nothing came twice")
	}
	if f.Calm(ctx); f.Counts().Twice != 2 {
		t.Errorf("%+v", f.Counts())
	}
}

func TestAStaleListIsAsThingsWere(t *testing.T) {
	ctx := t.Context()
	f := faulty.New(mem.New(time.Now, true), 1, faulty.Plan{Stale: 0.5, Lag: 2})
	for _, key := range []string{"a", "b", "c", "d"} {
		if err := put(ctx, f, key, "x"); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Delete(ctx, []string{"a"}); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for range 100 {
		list, _, err := f.List(ctx, "", "", 10)
		if err != nil {
			t.Fatal(err)
		}
		seen[keys(list)] = true
		page, more, err := f.List(ctx, "", "", 2)
		if err != nil || len(page) > 2 || !more && keys(page) != "bc" {
			t.Fatalf("a page of two: %s, %v, %v", keys(page), more, err)
		}
	}
	if want := map[string]bool{"bcd": true, "abcd": true, "abc": true}; !reflect.DeepEqual(seen, want) {
		t.Errorf("seen %v, want %v", seen, want)
	}
	f.Calm(ctx)
	if list, _, _ := f.List(ctx, "", "", 10); keys(list) != "bcd" {
		t.Errorf("calm: %s", keys(list))
	}
}

func keys(list []objstore.Info) (s string) {
	for _, i := range list {
		s += i.Key
	}
	return s
}

func TestABodyThatEndsEarlySaysSo(t *testing.T) {
	ctx := t.Context()
	f := faulty.New(mem.New(time.Now, true), 1, faulty.Plan{Cut: 1})
	if err := put(ctx, f, "o", "0123456789"); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		for _, n := range []int64{-1, 3, 100} {
			o, err := f.Get(ctx, "o", 2, n)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(o); !errors.Is(err, io.ErrUnexpectedEOF) || !strings.HasPrefix("23456789", string(b)) {
				t.Fatalf("%d: %q, %v", n, b, err)
			}
		}
	}
}
