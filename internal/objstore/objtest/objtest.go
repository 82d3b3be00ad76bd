// Package objtest holds object stores to what package objstore says.
package objtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/objstore"
)

// Abilities are what not every engine has.
type Abilities struct {
	IfTag bool // Put under IfTag
	Lock  bool // Retain
	Files bool // it keeps files, so no key can be a directory of another
}

// Run tests a store; open returns a new, empty one.
func Run(t *testing.T, has Abilities, open func(t *testing.T) objstore.Store) {
	for name, test := range map[string]func(*testing.T, objstore.Store){
		"what was put is there":                           putIsThere,
		"ranges are parts of the object":                  ranges,
		"an object that is not there is ErrNotFound":      notFound,
		"a put replaces":                                  replaces,
		"of two that put what must be absent one wins":    oneWins,
		"a list has the order of the bytes and all pages": func(t *testing.T, s objstore.Store) { lists(t, s, has.Files) },
		"a removal takes what is there":                   removes,
		"keys of any kind come back":                      keys,
		"what is no key is refused":                       noKeys,
		"an ended context ends calls":                     ends,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
	if has.IfTag {
		t.Run("a put replaces only what it was told", func(t *testing.T) { ifTag(t, open(t)) })
	}
	if has.Lock {
		t.Run("a locked object stays", func(t *testing.T) { locked(t, open(t)) })
	}
}

func put(t *testing.T, s objstore.Store, key, body string, c objstore.Condition) objstore.Info {
	t.Helper()
	i, err := s.Put(t.Context(), key, strings.NewReader(body), objstore.PutOptions{If: c})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func want(t *testing.T, s objstore.Store, key, body string) objstore.Info {
	t.Helper()
	b, i, err := objstore.ReadAll(t.Context(), s, key, 1<<30)
	if err != nil || string(b) != body {
		t.Fatalf("object %s has %d bytes %.40q, %v; want %d bytes %.40q", key, len(b), b, err, len(body), body)
	}
	return i
}

func putIsThere(t *testing.T, s objstore.Store) {
	big := make([]byte, 5<<20+3)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(big)
	for key, body := range map[string]string{"a": "", "b/c": "x", "b/d e+f%": string(big)} {
		before := put(t, s, key, body, objstore.Condition{})
		i := want(t, s, key, body)
		st, err := s.Stat(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		for _, got := range []objstore.Info{i, st} {
			if got.Key != key || got.Size != int64(len(body)) || got.Tag == "" || got.Tag != before.Tag || got.Modified.IsZero() {
				t.Errorf("%s: %+v after a put that said %+v", key, got, before)
			}
		}
	}
}

func ranges(t *testing.T, s objstore.Store) {
	body := strings.Repeat("0123456789", 100)
	put(t, s, "o", body, objstore.Condition{})
	for _, r := range []struct{ off, n, end int64 }{{0, 10, 10}, {5, 1, 6}, {990, 10, 1000}, {990, 100, 1000}, {7, -1, 1000}, {3, 0, 3}} {
		o, err := s.Get(t.Context(), "o", r.off, r.n)
		if err != nil {
			t.Fatalf("%+v: %v", r, err)
		}
		b, err := io.ReadAll(o)
		if err := errors.Join(err, o.Close()); err != nil || string(b) != body[r.off:r.end] || o.Size != 1000 {
			t.Errorf("%+v: %q of %d bytes, %v", r, b, o.Size, err)
		}
	}
	if _, err := s.Get(t.Context(), "o", 1000, 1); !errors.Is(err, objstore.ErrNotFound) {
		t.Errorf("a range that begins behind the end: %v", err)
	}
	if err := objstore.ReadAt(t.Context(), s, "o", make([]byte, 11), 990); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("reading behind the end: %v", err)
	}
}

func notFound(t *testing.T, s objstore.Store) {
	put(t, s, "there/too", "x", objstore.Condition{})
	for _, key := range []string{"not/there", "there"} {
		_, err := s.Stat(t.Context(), key)
		_, gerr := s.Get(t.Context(), key, 0, -1)
		for _, err := range []error{err, gerr} {
			if !errors.Is(err, objstore.ErrNotFound) {
				t.Errorf("%s: %v, want ErrNotFound", key, err)
			}
		}
	}
}

func replaces(t *testing.T, s objstore.Store) {
	a := put(t, s, "o", "one", objstore.Condition{})
	b := put(t, s, "o", "two", objstore.Condition{})
	if a.Tag == b.Tag {
		t.Error("the tag did not change with the content")
	}
	want(t, s, "o", "two")
}

func oneWins(t *testing.T, s objstore.Store) {
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = s.Put(t.Context(), "o", strings.NewReader(fmt.Sprint(i)), objstore.PutOptions{If: objstore.IfAbsent})
		})
	}
	wg.Wait()
	won := -1
	for i, err := range errs {
		switch {
		case err == nil && won < 0:
			won = i
		case err == nil:
			t.Errorf("%d won, and so did %d", won, i)
		case !errors.Is(err, objstore.ErrPrecondition):
			t.Errorf("%d: %v, want ErrPrecondition", i, err)
		}
	}
	if won < 0 {
		t.Fatal("nobody won")
	}
	want(t, s, "o", fmt.Sprint(won))
}

func ifTag(t *testing.T, s objstore.Store) {
	ctx := t.Context()
	first := put(t, s, "o", "one", objstore.IfAbsent)
	second := put(t, s, "o", "two", objstore.IfTag(first.Tag))
	for _, c := range []objstore.Condition{objstore.IfTag(first.Tag), objstore.IfAbsent} {
		if _, err := s.Put(ctx, "o", strings.NewReader("three"), objstore.PutOptions{If: c}); !errors.Is(err, objstore.ErrPrecondition) {
			t.Errorf("%+v: %v, want ErrPrecondition", c, err)
		}
	}
	if i := want(t, s, "o", "two"); i.Tag != second.Tag {
		t.Errorf("tag %q, the put said %q", i.Tag, second.Tag)
	}
	if _, err := s.Put(ctx, "none", strings.NewReader("x"), objstore.PutOptions{If: objstore.IfTag(first.Tag)}); !errors.Is(err, objstore.ErrPrecondition) && !errors.Is(err, objstore.ErrNotFound) {
		t.Errorf("where nothing is: %v", err)
	}
}

func lists(t *testing.T, s objstore.Store, files bool) {
	all := []string{"p/a/b", "p/a-b", "p/B", "p/ä", "p/a.b", "p2/x", "o/x"}
	if !files {
		all = append(all, "p/a")
	}
	for i := range 25 {
		all = append(all, fmt.Sprintf("p/n/%02d", i))
	}
	for _, k := range all {
		put(t, s, k, k, objstore.Condition{})
	}
	slices.Sort(all)
	for _, tc := range []struct{ prefix, after string }{{"", ""}, {"p/", ""}, {"p", "p/a/b"}, {"p/n/", "p/n/10"}, {"p/n/", "p/n/zz"}, {"none", ""}} {
		var expect, got []string
		for _, k := range all {
			if strings.HasPrefix(k, tc.prefix) && k > tc.after {
				expect = append(expect, k)
			}
		}
		after := tc.after
		for {
			page, more, err := s.List(t.Context(), tc.prefix, after, 7)
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range page {
				got = append(got, i.Key)
				after = i.Key
				if i.Size != int64(len(i.Key)) || i.Tag == "" {
					t.Errorf("%+v", i)
				}
			}
			if len(page) > 7 {
				t.Errorf("a page of %d, 7 were asked for", len(page))
			}
			if !more || len(page) == 0 {
				break
			}
		}
		if !slices.Equal(got, expect) {
			t.Errorf("%+v: %q, want %q", tc, got, expect)
		}
		got = nil
		for i, err := range objstore.All(t.Context(), s, tc.prefix, tc.after) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, i.Key)
		}
		if !slices.Equal(got, expect) {
			t.Errorf("%+v: all are %q, want %q", tc, got, expect)
		}
	}
}

func removes(t *testing.T, s objstore.Store) {
	for _, k := range []string{"a", "b", "c"} {
		put(t, s, k, "x", objstore.Condition{})
	}
	for _, keys := range [][]string{{"a", "none", "b"}, {"none"}, {"a"}, {"c"}} {
		if err := s.Delete(t.Context(), keys); err != nil {
			t.Fatalf("%q: %v", keys, err)
		}
	}
	if list, _, err := s.List(t.Context(), "", "", 10); err != nil || len(list) != 0 {
		t.Errorf("left: %+v, %v", list, err)
	}
	if err := s.Delete(t.Context(), make([]string, objstore.MaxDelete+1)); !errors.Is(err, objstore.ErrTooMany) {
		t.Errorf("too many keys: %v", err)
	}
}

func keys(t *testing.T, s objstore.Store) {
	for _, k := range []string{"a b", "a+b", "a%2Fb", "ü/日本", "a&b=c?d#e", "~!@$^*()_-[]{}|;:',<>", strings.Repeat("k", 200)} {
		put(t, s, k, k, objstore.Condition{})
		want(t, s, k, k)
		if err := s.Delete(t.Context(), []string{k}); err != nil {
			t.Errorf("%q: %v", k, err)
		}
		if _, err := s.Stat(t.Context(), k); !errors.Is(err, objstore.ErrNotFound) {
			t.Errorf("%q is left: %v", k, err)
		}
	}
}

func noKeys(t *testing.T, s objstore.Store) {
	for _, k := range []string{"", "/a", "a/", "a//b", "../a", "a/./b", "a\x00b", "a\nb", "\xff", strings.Repeat("k", objstore.MaxKey+1)} {
		_, err := s.Put(t.Context(), k, bytes.NewReader(nil), objstore.PutOptions{})
		_, serr := s.Stat(t.Context(), k)
		for _, err := range []error{err, serr} {
			if !errors.Is(err, objstore.ErrKey) {
				t.Errorf("%q: %v, want ErrKey", k, err)
			}
		}
	}
}

func locked(t *testing.T, s objstore.Store) {
	ctx := t.Context()
	put(t, s, "o", "x", objstore.Condition{})
	until := time.Now().Add(time.Hour)
	if err := s.Retain(ctx, "o", objstore.Retention{Mode: objstore.Compliance, Until: until}); err != nil {
		t.Fatal(err)
	}
	if err := s.Retain(ctx, "o", objstore.Retention{Mode: objstore.Compliance, Until: until.Add(time.Hour)}); err != nil {
		t.Errorf("prolonging: %v", err)
	}
	if err := s.Retain(ctx, "o", objstore.Retention{Mode: objstore.Compliance, Until: until}); !errors.Is(err, objstore.ErrDenied) {
		t.Errorf("shortening: %v, want ErrDenied", err)
	}
	if err := s.Retain(ctx, "none", objstore.Retention{Mode: objstore.Compliance, Until: until}); !errors.Is(err, objstore.ErrNotFound) {
		t.Errorf("what is not there: %v", err)
	}
}

func ends(t *testing.T, s objstore.Store) {
	put(t, s, "o", "x", objstore.Condition{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, getErr := s.Get(ctx, "o", 0, -1)
	_, putErr := s.Put(ctx, "o", strings.NewReader("y"), objstore.PutOptions{})
	_, _, listErr := s.List(ctx, "", "", 10)
	for what, err := range map[string]error{"Get": getErr, "Put": putErr, "List": listErr, "Delete": s.Delete(ctx, []string{"o"})} {
		if err == nil {
			t.Errorf("%s went on", what)
		}
	}
	want(t, s, "o", "x")
}
