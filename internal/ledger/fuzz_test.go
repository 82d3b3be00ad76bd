package ledger

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
)

func sample() entry {
	return entry{
		N: 7, Prev: digest.Of([]byte("6")), By: "host/1/0123456789abcdef", At: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
		Set: map[string]json.RawMessage{"a": []byte(`{"x":[1,"<&>` + "\u2028" + `"]}`), "b": []byte("1")}, Del: []string{"c"},
	}
}

func TestNothingOfAnEntryCanBeChangedUnseen(t *testing.T) {
	b, _, err := sample().format()
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		bad := slices.Clone(b)
		bad[i] ^= 1
		if _, _, err := parseEntry(bad, 7); err == nil {
			t.Errorf("byte %d was changed, and nobody noticed", i)
		}
		if _, _, err := parseEntry(b[:i], 7); err == nil {
			t.Errorf("%d bytes of %d are taken for all", i, len(b))
		}
	}
	if _, _, err := parseEntry(b, 8); err == nil {
		t.Error("entry 7 is taken for entry 8")
	}
}

func TestNothingOfACheckpointCanBeChangedUnseen(t *testing.T) {
	s := State{}.with(sample(), digest.Of([]byte("7")))
	b, err := s.checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		bad := slices.Clone(b)
		bad[i] ^= 1
		if got, err := parseCheckpoint(bad, 7); err == nil && !same(got, s) {
			t.Errorf("byte %d was changed, and nobody noticed", i)
		}
		if got, err := parseCheckpoint(b[:i], 7); err == nil {
			t.Errorf("%d bytes of %d are taken for all: %v", i, len(b), got)
		}
	}
}

func same(a, b State) bool {
	return a.seq == b.seq && a.sum == b.sum && maps.EqualFunc(maps.Collect(a.Scan("")), maps.Collect(b.Scan("")), bytes.Equal)
}

func FuzzEntry(f *testing.F) {
	b, _, err := sample().format()
	if err != nil {
		f.Fatal(err)
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	f.Add(line)
	f.Add([]byte(`{"n":7}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		whole := append(append(slices.Clone(line), '\n'), digest.Of(line).String()+"\n"...) // only what has its sum gets far
		e, _, err := parseEntry(whole, 7)
		if err != nil {
			return
		}
		again, sum, err := e.format()
		if err != nil {
			t.Fatal(err)
		}
		e2, sum2, err := parseEntry(again, 7)
		if err != nil || sum != sum2 || !same(State{}.with(e, sum), State{}.with(e2, sum)) {
			t.Fatalf("%s became %s, err = %v", line, again, err)
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	b, err := State{}.with(sample(), digest.Digest{}).checkpoint()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseCheckpoint(b, 7)
		if err != nil {
			return
		}
		again, err := s.checkpoint()
		if err != nil {
			t.Fatal(err)
		}
		if s2, err := parseCheckpoint(again, 7); err != nil || !same(s, s2) {
			t.Fatalf("a checkpoint does not survive a round trip: %v", err)
		}
	})
}

func FuzzRecords(f *testing.F) {
	f.Add([]byte("\x01a\x01b\x01b\x00"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, records []byte) {
		s := State{}.with(entry{}, digest.Digest{})
		if s.fill(records) != nil {
			return
		}
		b, err := s.checkpoint()
		if err != nil {
			t.Fatal(err)
		}
		if s2, err := parseCheckpoint(b, 0); err != nil || !same(s, s2) {
			t.Fatalf("records %q do not survive a round trip: %v", records, err)
		}
	})
}
