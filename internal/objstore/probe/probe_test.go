package probe_test

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/mem"
	"github.com/holdfast-backup/holdfast/internal/objstore/probe"
)

// bad is a store that breaks one promise.
type bad struct {
	*mem.Store
	blind    bool // conditions are not looked at
	stale    bool // listings come from the past
	backward bool // listings have another order
	whole    bool // ranges are not looked at
	sticky   bool // nothing is removed
	flat     bool // keys are names of files
	loose    bool // locks are not kept
	refuses  error
}

func (b *bad) Put(ctx context.Context, key string, body objstore.Body, o objstore.PutOptions) (objstore.Info, error) {
	if b.refuses != nil {
		return objstore.Info{}, b.refuses
	}
	if _, err := b.Stat(ctx, path.Dir(key)); b.flat && err == nil {
		return objstore.Info{}, errors.New("the parent is a file")
	}
	if b.blind {
		o.If = objstore.Condition{}
	}
	return b.Store.Put(ctx, key, body, o)
}

func (b *bad) List(ctx context.Context, prefix, after string, limit int) ([]objstore.Info, bool, error) {
	if b.stale {
		return nil, false, nil
	}
	list, more, err := b.Store.List(ctx, prefix, after, limit)
	if b.backward {
		slices.Reverse(list)
	}
	return list, more, err
}

func (b *bad) Get(ctx context.Context, key string, off, n int64) (objstore.Object, error) {
	if b.whole {
		off = 0
	}
	return b.Store.Get(ctx, key, off, n)
}

func (b *bad) Delete(ctx context.Context, keys []string) error {
	if b.refuses != nil {
		return b.refuses
	}
	if b.sticky {
		return nil
	}
	return b.Store.Delete(ctx, keys)
}

func (b *bad) Retain(ctx context.Context, key string, r objstore.Retention) error {
	if b.loose {
		return nil
	}
	return b.Store.Retain(ctx, key, r)
}

func failed(r probe.Report) (list []string) {
	for _, c := range r.Checks {
		if !c.OK {
			list = append(list, c.Name)
		}
	}
	return list
}

func TestBrokenPromisesAreFound(t *testing.T) {
	for _, tc := range []struct {
		name string
		bad  bad
		want []string
		fit  probe.Need // to which degree at most; -1: not at all
	}{
		{"a good store", bad{}, nil, probe.Extra},
		{"conditions that nobody looks at", bad{blind: true}, []string{"conditional-put", "conditional-replace"}, probe.Always},
		{"stale listings", bad{stale: true}, []string{"read-after-write", "list"}, -1},
		{"listings in another order", bad{backward: true}, []string{"list"}, -1},
		{"ranges that nobody looks at", bad{whole: true}, []string{"range"}, -1},
		{"keys that are names of files", bad{flat: true}, []string{"nested-keys"}, probe.Several},
		{"locks that nobody keeps", bad{loose: true}, []string{"object-lock"}, probe.Several},
		{"nothing is removed", bad{sticky: true}, []string{"read-after-write", "delete"}, -1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.bad.Store = mem.New(time.Now, true)
			r, err := probe.Run(t.Context(), &tc.bad, probe.Options{Lock: true, Now: time.Now, Large: 1 << 10})
			if err != nil {
				t.Fatal(err)
			}
			if got := failed(r); !slices.Equal(got, tc.want) {
				t.Errorf("failed: %q, want %q", got, tc.want)
			}
			for n := probe.Always; n <= probe.Extra; n++ {
				if r.Fit(n) != (n <= tc.fit) {
					t.Errorf("fit for %v: %v", n, r.Fit(n))
				}
			}
		})
	}
}

func TestNothingOfAProbeStays(t *testing.T) {
	s := mem.New(time.Now, false)
	if _, err := probe.Run(t.Context(), s, probe.Options{Now: time.Now, Large: 1 << 10}); err != nil {
		t.Fatal(err)
	}
	if list, _, err := s.List(t.Context(), "", "", 10); err != nil || len(list) > 0 {
		t.Errorf("left: %+v, %v", list, err)
	}
}

func TestAnObjectThatCouldNotBeLockedIsRemoved(t *testing.T) {
	s := mem.New(time.Now, false)
	r, err := probe.Run(t.Context(), s, probe.Options{Lock: true, Now: time.Now, Large: 1 << 10})
	if got := failed(r); err != nil || !slices.Equal(got, []string{"object-lock"}) {
		t.Errorf("failed: %q, %v", got, err)
	}
	if list, _, err := s.List(t.Context(), "", "", 10); err != nil || len(list) > 0 {
		t.Errorf("left: %+v, %v", list, err)
	}
}

// silent is a store that answers nothing once a listing was asked for.
type silent struct {
	*mem.Store
	hear func()
}

func (s silent) List(ctx context.Context, _, _ string, _ int) ([]objstore.Info, bool, error) {
	s.hear()
	<-ctx.Done()
	return nil, false, ctx.Err()
}

func (s silent) Delete(ctx context.Context, _ []string) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestAnInterruptedProbeBlamesNoCheckAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := errors.New("interrupted")
		ctx, cancel := context.WithCancelCause(t.Context())
		s := silent{mem.New(time.Now, false), func() { cancel(stop) }}
		r, err := probe.Run(ctx, s, probe.Options{Now: time.Now})
		if !errors.Is(err, stop) || len(r.Checks) > 0 {
			t.Errorf("%+v, %v", r, err)
		}
		if !strings.Contains(err.Error(), "left below probe-") {
			t.Errorf("it is not said what is left: %v", err)
		}
	})
}

func TestAStoreThatRefusesIsToldAtOnce(t *testing.T) {
	s := &bad{Store: mem.New(time.Now, false), refuses: objstore.ErrDenied}
	if r, err := probe.Run(t.Context(), s, probe.Options{Now: time.Now}); err != objstore.ErrDenied || len(r.Checks) > 0 { //nolint:errorlint // and nothing else is said
		t.Errorf("%+v, %v", r, err)
	}
}
