package sweep_test

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast/internal/datastore/sweep"
)

type decision struct {
	Name     string
	Atime    int64
	Start    int64  `json:"gc-start"`
	Oldest   int64  `json:"oldest-writer"`
	Cutoff   *int64 `json:"cutoff-seconds"`
	MinAtime int64  `json:"min-atime-4"`
	Result   string `json:"result-4"`
}

func golden(t *testing.T) []decision {
	t.Helper()
	b, err := os.ReadFile("testdata/gc.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Cutoff    int64 `json:"default-cutoff-seconds"`
		Decisions []decision
	}
	if err := json.Unmarshal(b, &file); err != nil || len(file.Decisions) < 13 {
		t.Fatalf("%d decisions, %v", len(file.Decisions), err)
	}
	if time.Duration(file.Cutoff)*time.Second != sweep.DefaultCutoff {
		t.Fatalf("default cutoff %v, want %d s", sweep.DefaultCutoff, file.Cutoff)
	}
	return file.Decisions
}

func (d decision) times() (start, oldest time.Time, cutoff time.Duration) {
	cutoff = sweep.DefaultCutoff
	if d.Cutoff != nil {
		cutoff = time.Duration(*d.Cutoff) * time.Second
	}
	return time.Unix(d.Start, 0), time.Unix(d.Oldest, 0), cutoff
}

func TestServerRuleMatchesTheGoldenDecisions(t *testing.T) {
	for _, d := range golden(t) {
		start, oldest, cutoff := d.times()
		m := sweep.ServerMinAtime(start, oldest, cutoff)
		if m.Unix() != d.MinAtime {
			t.Errorf("%s: min_atime %d, want %d", d.Name, m.Unix(), d.MinAtime)
		}
		want := map[string]sweep.Verdict{"keep": sweep.InUse, "pending": sweep.Pending, "remove": sweep.Remove}[d.Result]
		if got := sweep.Decide(time.Unix(d.Atime, 0), m, oldest); got != want {
			t.Errorf("%s: %v, want %v", d.Name, got, want)
		}
	}
}

// With the default cutoff our rule is the server's in every golden case.
func TestOurRuleDiffersOnlyByTheMargin(t *testing.T) {
	for _, d := range golden(t) {
		start, oldest, cutoff := d.times()
		want := d.MinAtime
		if d.Name == "cutoff-1min-removes" || d.Name == "cutoff-1min-keeps-pending" {
			want = d.Start - 300 // a writer may be as old as the collection
		}
		if got := sweep.MinAtime(start, oldest, cutoff); got.Unix() != want {
			t.Errorf("%s: min_atime %d, want %d", d.Name, got.Unix(), want)
		}
	}
}

func TestNothingOfTheLastFiveMinutesOfAWriterIsRemoved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := time.Unix(1700000000, rapid.Int64Range(0, 999_999_999).Draw(t, "ns"))
		oldest := start.Add(-time.Duration(rapid.Int64Range(0, int64(72*time.Hour)).Draw(t, "writer")))
		cutoff := time.Duration(rapid.Int64Range(int64(sweep.MinCutoff), int64(sweep.MaxCutoff)).Draw(t, "cutoff"))
		ours, theirs := sweep.MinAtime(start, oldest, cutoff), sweep.ServerMinAtime(start, oldest, cutoff)
		if ours.After(theirs) {
			t.Fatalf("removes more than a server: %v after %v", ours, theirs)
		}
		atime := oldest.Add(-time.Duration(rapid.Int64Range(0, int64(300*time.Second)).Draw(t, "touched")))
		if got := sweep.Decide(atime, ours, oldest); got == sweep.Remove {
			t.Fatalf("a chunk touched %v before the oldest writer is removed", oldest.Sub(atime))
		}
		if got := sweep.Decide(start, ours, oldest); got != sweep.InUse {
			t.Fatalf("a chunk marked by this collection is %v", got)
		}
	})
}

func TestVerdictsHaveNames(t *testing.T) {
	for v, want := range map[sweep.Verdict]string{sweep.InUse: "in use", sweep.Pending: "pending", sweep.Remove: "remove"} {
		if v.String() != want {
			t.Errorf("got %q, want %q", v, want)
		}
	}
}
