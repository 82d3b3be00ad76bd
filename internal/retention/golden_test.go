package retention_test

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/retention"
)

// The cases up to daily-1-weekly-5 repeat inputs and results of the upstream
// tests; the others were computed by two independent programs.
func TestMarksMatchTheGoldenCases(t *testing.T) {
	b, err := os.ReadFile("testdata/prune.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Cases []struct {
			Name    string
			Zone    int `json:"tz-offset-minutes"`
			Options struct {
				Last    int `json:"keep-last"`
				Hourly  int `json:"keep-hourly"`
				Daily   int `json:"keep-daily"`
				Weekly  int `json:"keep-weekly"`
				Monthly int `json:"keep-monthly"`
				Yearly  int `json:"keep-yearly"`
			}
			Snapshots []struct {
				Time               time.Time
				Protected, Partial bool
			}
			NewestFirst []struct {
				Time time.Time
				Mark retention.Mark
			} `json:"newest-first"`
		}
	}
	if err := json.Unmarshal(b, &file); err != nil || len(file.Cases) < 21 {
		t.Fatalf("%d cases, %v", len(file.Cases), err)
	}
	for _, tc := range file.Cases {
		t.Run(tc.Name, func(t *testing.T) {
			snaps := make([]retention.Snapshot, len(tc.Snapshots))
			for i, s := range tc.Snapshots {
				snaps[i] = retention.Snapshot{Time: s.Time.Unix(), Protected: s.Protected, Finished: !s.Partial}
			}
			marks := retention.Decide(snaps, retention.Options(tc.Options), time.FixedZone("", tc.Zone*60))
			if len(marks) != len(tc.NewestFirst) {
				t.Fatalf("%d marks, want %d", len(marks), len(tc.NewestFirst))
			}
			got := map[int64]retention.Mark{}
			for i, m := range marks {
				got[snaps[i].Time] = m
			}
			for _, want := range tc.NewestFirst {
				if m := got[want.Time.Unix()]; m != want.Mark {
					t.Errorf("%s: %s, want %s", want.Time, m, want.Mark)
				}
			}
		})
	}
}
