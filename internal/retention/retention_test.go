package retention_test

import (
	"slices"
	"testing"
	"time"
	_ "time/tzdata" // the test below names a zone

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast/internal/retention"
)

func at(t *testing.T, text string) int64 {
	t.Helper()
	v, err := time.Parse(time.DateTime, text)
	if err != nil {
		t.Fatal(err)
	}
	return v.Unix()
}

func TestProtectedUnfinishedSnapshotStaysProtected(t *testing.T) {
	snaps := []retention.Snapshot{
		{Time: 3, Finished: false, Protected: true},
		{Time: 2, Finished: false, Protected: true},
		{Time: 1, Finished: true},
	}
	got := retention.Decide(snaps, retention.Options{Last: 1}, time.UTC)
	if want := []retention.Mark{retention.Protected, retention.Protected, retention.Keep}; !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func TestFirstOfJanuaryBelongsToTheLastISOWeek(t *testing.T) {
	snaps := []retention.Snapshot{
		{Time: at(t, "2027-01-01 12:00:00"), Finished: true}, // week 2026/53
		{Time: at(t, "2026-12-31 12:00:00"), Finished: true}, // the same
		{Time: at(t, "2026-01-01 12:00:00"), Finished: true}, // week 2026/01
	}
	got := retention.Decide(snaps, retention.Options{Weekly: 5}, time.UTC)
	if want := []retention.Mark{retention.Keep, retention.Remove, retention.Keep}; !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

// Europe/Berlin has 2:30 twice on that day. Both are hour 02 of the same date,
// so they are one period, as in a server that prunes there.
func TestHourThatComesTwiceIsOnePeriod(t *testing.T) {
	summer, winter := time.FixedZone("CEST", 7200), time.FixedZone("CET", 3600)
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	snaps := []retention.Snapshot{
		{Time: time.Date(2024, 10, 27, 2, 30, 0, 0, summer).Unix(), Finished: true},
		{Time: time.Date(2024, 10, 27, 2, 30, 0, 0, winter).Unix(), Finished: true},
	}
	got := retention.Decide(snaps, retention.Options{Hourly: 5}, berlin)
	if want := []retention.Mark{retention.Remove, retention.Keep}; !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func TestNoOptionMeansNoRetention(t *testing.T) {
	if !(retention.Options{}).IsZero() || (retention.Options{Yearly: 1}).IsZero() {
		t.Fatal("IsZero is wrong")
	}
	if got := retention.Decide(nil, retention.Options{}, time.UTC); len(got) != 0 {
		t.Fatalf("marks for nothing: %v", got)
	}
}

func TestAnyGroupAndOptions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		snaps, o, zone := drawGroup(t), drawOptions(t), drawZone(t)
		before := slices.Clone(snaps)
		marks := retention.Decide(snaps, o, zone)
		if !slices.Equal(before, snaps) || len(marks) != len(snaps) {
			t.Fatal("the input was changed, or marks are missing")
		}
		newest, newestFinished, kept := -1, -1, 0
		for i, s := range snaps {
			if newest < 0 || s.Time > snaps[newest].Time {
				newest = i
			}
			if s.Finished && !s.Protected && (newestFinished < 0 || s.Time > snaps[newestFinished].Time) {
				newestFinished = i
			}
			if s.Protected != (marks[i] == retention.Protected) {
				t.Fatalf("protected %v, mark %s", s.Protected, marks[i])
			}
			switch marks[i] {
			case retention.Keep:
				kept++
				if !s.Finished {
					t.Fatal("an unfinished snapshot takes a slot")
				}
			case retention.KeepPartial, retention.Remove, retention.Protected:
			default:
				t.Fatalf("mark %q", marks[i])
			}
		}
		for i, m := range marks {
			if m == retention.KeepPartial && (i != newest || snaps[i].Finished) {
				t.Fatal("an unfinished snapshot that is not the newest is kept")
			}
		}
		if newestFinished >= 0 && !o.IsZero() && marks[newestFinished] != retention.Keep {
			t.Fatalf("the newest good snapshot is marked %s", marks[newestFinished])
		}
		if most := o.Last + o.Hourly + o.Daily + o.Weekly + o.Monthly + o.Yearly; kept > most {
			t.Fatalf("%d kept, at most %d asked for", kept, most)
		}
	})
}

func TestOrderOfInputDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		snaps, o, zone := drawGroup(t), drawOptions(t), drawZone(t)
		want := map[retention.Snapshot]retention.Mark{}
		for i, m := range retention.Decide(snaps, o, zone) {
			want[snaps[i]] = m
		}
		shuffled := rapid.Permutation(snaps).Draw(t, "shuffled")
		for i, m := range retention.Decide(shuffled, o, zone) {
			if want[shuffled[i]] != m {
				t.Fatalf("%+v: %s, in another order %s", shuffled[i], want[shuffled[i]], m)
			}
		}
	})
}

func TestPruningTwiceRemovesNothingMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		snaps, zone := drawGroup(t), drawZone(t)
		o := retention.Options{Last: rapid.IntRange(1, 5).Draw(t, "last")}
		var left []retention.Snapshot
		for i, m := range retention.Decide(snaps, o, zone) {
			if m != retention.Remove {
				left = append(left, snaps[i])
			}
		}
		for i, m := range retention.Decide(left, o, zone) {
			if m == retention.Remove {
				t.Fatalf("%+v is removed by the second pruning", left[i])
			}
		}
	})
}

func drawGroup(t *rapid.T) []retention.Snapshot {
	snap := rapid.Custom(func(t *rapid.T) retention.Snapshot {
		return retention.Snapshot{
			Time:      1717597476 + 1800*rapid.Int64Range(-5000, 5000).Draw(t, "half hours"),
			Protected: rapid.IntRange(0, 4).Draw(t, "protected") == 0,
			Finished:  rapid.IntRange(0, 4).Draw(t, "unfinished") != 0,
		}
	})
	return rapid.SliceOfNDistinct(snap, 0, 40, func(s retention.Snapshot) int64 { return s.Time }).Draw(t, "group")
}

func drawOptions(t *rapid.T) retention.Options {
	n := rapid.SampledFrom([]int{0, 0, 1, 2, 5})
	return retention.Options{
		Last: n.Draw(t, "last"), Hourly: n.Draw(t, "hourly"), Daily: n.Draw(t, "daily"),
		Weekly: n.Draw(t, "weekly"), Monthly: n.Draw(t, "monthly"), Yearly: n.Draw(t, "yearly"),
	}
}

func drawZone(t *rapid.T) *time.Location {
	return time.FixedZone("", 900*rapid.IntRange(-48, 56).Draw(t, "zone"))
}
