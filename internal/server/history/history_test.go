package history_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-backup/holdfast/internal/server/history"
)

func figures(used float64) map[string]float64 { return map[string]float64{"used": used, "total": 100} }

func open(t *testing.T, dir string) *history.Record {
	t.Helper()
	r, err := history.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func read(t *testing.T, r *history.Record, f history.Frame, greatest bool) []history.Point {
	t.Helper()
	points, err := r.Read("tank", f, greatest)
	if err != nil {
		t.Fatal(err)
	}
	return points
}

// day is a time at which spans of all grains begin.
const day = 1795651200 - 1795651200%(7*24*3600)

func TestFiguresOfASpanAreAveragedAndTheGreatestIsKept(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	for _, p := range []struct {
		at   int64
		used float64
	}{{0, 20}, {30, 10}, {150, 60}} {
		if err := r.Add("tank", time.Unix(day+p.at, 0), figures(p.used)); err != nil {
			t.Fatal(err)
		}
	}
	want := []history.Point{{day, figures(15)}, {day + 60, nil}, {day + 120, figures(60)}}
	if diff := cmp.Diff(want, read(t, r, history.Hour, false)); diff != "" {
		t.Error(diff)
	}
	if got := read(t, r, history.Hour, true); got[0].Figures["used"] != 20 {
		t.Errorf("the greatest: %v", got)
	}
	for _, f := range []history.Frame{history.Week, history.Year, history.Decade} {
		if diff := cmp.Diff([]history.Point{{day, figures(30)}}, read(t, r, f, false)); diff != "" {
			t.Errorf("%s: %s", f, diff)
		}
	}
	if err := r.Save(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, read(t, open(t, dir), history.Hour, false)); diff != "" {
		t.Errorf("after a restart: %s", diff)
	}
	if _, err := r.Read("tank", "epoch", false); err == nil {
		t.Error("an unknown frame")
	}
}

func TestOldSpansGo(t *testing.T) {
	r := open(t, t.TempDir())
	for i := range int64(3000) {
		if err := r.Add("tank", time.Unix(day+60*i, 0), figures(float64(i))); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(t, r, history.Day, false); len(got) != 1490 || got[1489].Time != day+60*2999 || got[0].Figures["used"] != 3000-1490 {
		t.Errorf("%d points, %v", len(got), got[0])
	}
	if got := read(t, r, history.Hour, false); len(got) != 70 || got[69].Figures["used"] != 2999 {
		t.Errorf("%d points", len(got))
	}
	if got := read(t, r, history.Week, false); len(got) != 100 {
		t.Errorf("%d half hours", len(got))
	}
	// A clock that was wrong begins anew instead of taking memory for what lies between.
	if err := r.Add("tank", time.Unix(day+1<<40, 0), figures(1)); err != nil {
		t.Fatal(err)
	}
	if got := read(t, r, history.Day, false); len(got) != 1 {
		t.Errorf("%d points", len(got))
	}
}

func TestFilesThatCannotBeReadCountAsEmpty(t *testing.T) {
	dir := t.TempDir()
	for _, text := range []string{
		"", "{", `{"columns":["b","a"]}`, `{"columns":["a"],"archives":[{"start":60,"spans":[{"n":1,"sum":[],"max":[1]}]}]}`,
		`{"columns":["a"],"archives":[{"start":61,"spans":[]}]}`, `{"columns":["a"],"archives":[{"start":60,"spans":[{"n":0,"sum":[1],"max":[1]}]}]}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, "tank.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r := open(t, dir)
		if got := read(t, r, history.Hour, false); got != nil {
			t.Errorf("%s: %v", text, got)
		}
		if err := r.Add("tank", time.Unix(day, 0), figures(1)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	r := open(t, dir)
	if err := r.Forget("tank"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "tank.json")); !os.IsNotExist(err) {
		t.Errorf("it stays: %v", err)
	}
}
