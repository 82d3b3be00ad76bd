package bucket_test

import (
	"errors"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket"
)

func TestARepositoryIsReadAsItWas(t *testing.T) {
	w := newWorld(t)
	r := w.open(w.store)
	start := w.clock.at
	made := func(ns names.Namespace) {
		t.Helper()
		w.clock.at = w.clock.at.Add(time.Hour)
		if err := r.CreateNamespace(t.Context(), ns); err != nil {
			t.Fatal(err)
		}
	}
	made("a")
	made("b")
	w.clock.at = w.clock.at.Add(time.Hour)
	if err := r.DeleteNamespace(t.Context(), "a", false); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		after time.Duration
		want  int
	}{{0, 0}, {90 * time.Minute, 1}, {150 * time.Minute, 2}, {time.Hour * 10, 1}} {
		o := w.options()
		o.At = start.Add(tc.after)
		past, err := bucket.Open(t.Context(), w.store, o)
		if err != nil {
			t.Fatal(err)
		}
		if list, err := past.Namespaces(t.Context(), names.Root); err != nil || len(list) != tc.want {
			t.Errorf("after %v: %v, %v, want %d", tc.after, list, err, tc.want)
		}
		g := names.Group{Type: names.Host, ID: "x"}
		_, beginErr := past.Begin(t.Context(), repo.Begin{Snapshot: names.Snapshot{Group: g, Time: start.Unix()}})
		for what, err := range map[string]error{"a namespace": past.CreateNamespace(t.Context(), "c"), "a backup": beginErr} {
			if !errors.Is(err, bucket.ErrPast) {
				t.Errorf("%s: %v, want ErrPast", what, err)
			}
		}
	}
	o := w.options()
	o.At = start.Add(-time.Minute)
	if _, err := bucket.Open(t.Context(), w.store, o); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("before it was made: %v, want ErrNotFound", err)
	}
}
