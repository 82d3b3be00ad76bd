package usage_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/server/usage"
)

const (
	halfHour = 1800
	began    = 1_700_000_000 / halfHour * halfHour
)

func record(t *testing.T) (*usage.Record, string) {
	t.Helper()
	dir := t.TempDir()
	r, err := usage.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return r, dir
}

func add(t *testing.T, r *usage.Record, at int64, used uint64) {
	t.Helper()
	if err := r.Add("tank", time.Unix(at, 0), used, 1000); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, r *usage.Record) usage.History {
	t.Helper()
	h, err := r.Read("tank")
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestAStoreThatGrowsEvenlyIsFullWhenTheLineSays(t *testing.T) {
	r, _ := record(t)
	for i := range int64(10) {
		if _, ok := read(t, r).Full(); ok != (i >= 7) {
			t.Errorf("with %d values there is an estimate: %v", i, ok)
		}
		add(t, r, began+i*halfHour, uint64(100+10*i))
	}
	full, ok := read(t, r).Full()
	if want := int64(began + 90*halfHour); !ok || full < want-1 || full > want+1 {
		t.Errorf("full at %d, %v, want %d", full, ok, want)
	}
}

func TestAStoreThatDoesNotGrowIsFullInThePast(t *testing.T) {
	r, _ := record(t)
	for i := range int64(10) {
		add(t, r, began+i*halfHour, 500)
	}
	if full, ok := read(t, r).Full(); !ok || full != 0 {
		t.Errorf("constant: %d, %v", full, ok)
	}
	for i := int64(10); i < 20; i++ {
		add(t, r, began+i*halfHour, uint64(500-i))
	}
	if full, ok := read(t, r).Full(); !ok || full >= began {
		t.Errorf("shrinking: %d, %v", full, ok)
	}
}

func TestHistoryHasAMonthWithHoles(t *testing.T) {
	r, _ := record(t)
	add(t, r, began, 1)
	add(t, r, began+100, 2) // the same half hour
	add(t, r, began+3*halfHour+17, 3)
	h := read(t, r)
	if h.Start != began || h.Step != halfHour || len(h.Values) != 4 || *h.Values[0] != 0.002 || h.Values[1] != nil || *h.Values[3] != 0.003 {
		t.Errorf("the history is %+v", h)
	}
	add(t, r, began+31*24*3600, 4)
	h = read(t, r)
	if len(h.Values) != 30*48 || h.Start+int64(len(h.Values)-1)*halfHour != began+31*24*3600 || *h.Values[30*48-1] != 0.004 {
		t.Errorf("after a month it has %d values from %d", len(h.Values), h.Start)
	}
	add(t, r, began+1000*24*3600, 5) // long off, or a clock that jumped: no long list of holes
	if h = read(t, r); len(h.Values) != 1 {
		t.Errorf("after years it has %d values", len(h.Values))
	}
	add(t, r, began, 6) // the clock was wrong
	if h = read(t, r); len(h.Values) != 1 || h.Start != began {
		t.Errorf("after the clock was set back it has %d values from %d", len(h.Values), h.Start)
	}
}

func TestADamagedHistoryBeginsAnew(t *testing.T) {
	r, dir := record(t)
	for _, text := range []string{"", "{", `{"start":1,"step":0,"values":[1]}`, `{"step":1800,"values":{}}`} {
		if err := os.WriteFile(filepath.Join(dir, "tank.json"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if h := read(t, r); len(h.Values) != 0 {
			t.Errorf("%q has %d values", text, len(h.Values))
		}
		add(t, r, began, 1)
		if h := read(t, r); len(h.Values) != 1 {
			t.Errorf("%q: after one there are %d values", text, len(h.Values))
		}
	}
	if err := r.Forget("tank"); err != nil {
		t.Fatal(err)
	}
	if err := r.Forget("tank"); err != nil {
		t.Error(err)
	}
}
