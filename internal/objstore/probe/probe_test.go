package probe_test

import (
	"context"
	"errors"
	"slices"
	"testing"
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
	refuses  error
}

func (b *bad) Put(ctx context.Context, key string, body objstore.Body, o objstore.PutOptions) (objstore.Info, error) {
	if b.refuses != nil {
		return objstore.Info{}, b.refuses
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
	if b.sticky {
		return nil
	}
	return b.Store.Delete(ctx, keys)
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

func TestAStoreThatRefusesIsToldAtOnce(t *testing.T) {
	s := &bad{Store: mem.New(time.Now, false), refuses: objstore.ErrDenied}
	if r, err := probe.Run(t.Context(), s, probe.Options{Now: time.Now}); !errors.Is(err, objstore.ErrDenied) || len(r.Checks) > 0 {
		t.Errorf("%+v, %v", r, err)
	}
}
