package calendar_test

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/calendar"
)

// places have clocks of all sorts; the days are near their changes.
var places = []struct {
	name string
	days []string
}{
	{"UTC", []string{"2026-02-28", "2024-02-28", "2026-12-31"}},
	{"Europe/Berlin", []string{"2026-03-28", "2026-10-24", "2026-06-01"}},
	{"America/New_York", []string{"2026-03-07", "2026-10-31"}},
	{"Australia/Lord_Howe", []string{"2026-04-04", "2026-10-03"}}, // half an hour
	{"Antarctica/Troll", []string{"2026-03-28", "2026-10-24"}},    // two hours
	{"America/Sao_Paulo", []string{"2018-02-17", "2018-11-03"}},   // at midnight
	{"Pacific/Apia", []string{"2011-12-28"}},                      // a whole day
	{"Africa/Casablanca", []string{"2026-02-14", "2026-03-21"}},
	{"Asia/Kathmandu", []string{"2026-03-01"}},
}

// shape is an event in the words of a test: what each part may be.
type shape struct {
	weekdays             []int // 0 is Monday; nil: every one
	months, mdays        []int
	hours, minutes, secs []int
}

func (s shape) fits(t time.Time) bool {
	in := func(list []int, v int) bool { return list == nil || slices.Contains(list, v) }
	return in(s.weekdays, (int(t.Weekday())+6)%7) && in(s.months, int(t.Month())) && in(s.mdays, t.Day()) &&
		in(s.hours, t.Hour()) && in(s.minutes, t.Minute()) && in(s.secs, t.Second())
}

// random makes an event and its text, both of one draw.
func random(rng *rand.Rand) (shape, string) {
	part := func(min, max int) ([]int, string) {
		switch rng.IntN(5) {
		case 0:
			return nil, "*"
		case 1:
			a := min + rng.IntN(max-min+1)
			return []int{a}, fmt.Sprint(a)
		case 2:
			a := min + rng.IntN(max-min+1)
			b := a + rng.IntN(max-a+1)
			list := []int{}
			for v := a; v <= b; v++ {
				list = append(list, v)
			}
			return list, fmt.Sprintf("%d..%d", a, b)
		case 3:
			a, n := min+rng.IntN(max-min+1), 1+rng.IntN(min+10)
			list := []int{}
			for v := a; v <= max; v += n {
				list = append(list, v)
			}
			return list, fmt.Sprintf("%d/%d", a, n)
		}
		list, text := []int{}, []string{}
		for range 1 + rng.IntN(4) {
			v := min + rng.IntN(max-min+1)
			list, text = append(list, v), append(text, fmt.Sprint(v))
		}
		return list, strings.Join(text, ",")
	}
	var s shape
	var words []string
	names := []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
	if rng.IntN(3) == 0 {
		a, n := rng.IntN(7), 1+rng.IntN(6)
		for i := range n {
			s.weekdays = append(s.weekdays, (a+i)%7)
		}
		words = append(words, names[a]+".."+names[(a+n-1)%7])
	}
	if rng.IntN(3) == 0 {
		var m, d string
		if s.months, m = part(1, 12); rng.IntN(2) == 0 {
			s.months, m = nil, "*"
		}
		s.mdays, d = part(1, 31)
		words = append(words, m+"-"+d)
	}
	var h, m, c string
	s.hours, h = part(0, 23)
	s.minutes, m = part(0, 59)
	if s.secs, c = []int{0}, "0"; rng.IntN(8) == 0 {
		v := rng.IntN(60)
		s.secs, c = []int{v}, fmt.Sprint(v)
	}
	return s, strings.Join(append(words, h+":"+m+":"+c), " ")
}

// Every second of some days is looked at: a time comes next if it fits, and its
// clock has not shown it before.
func TestNextIsWhatLookingAtTheClockFinds(t *testing.T) {
	const before, window = 26 * 3600, 60 * 3600 // seconds
	for _, p := range places {
		loc := place(t, p.name)
		for _, d := range p.days {
			start, err := time.ParseInLocation(time.DateOnly, d, time.UTC)
			if err != nil {
				t.Fatal(err)
			}
			rng := rand.New(rand.NewPCG(1, uint64(start.Unix())))
			var shown []time.Time // minute by minute: each reading once
			seen := map[string]bool{}
			for s := -before; s < window; s += 60 {
				at := start.Add(time.Duration(s) * time.Second).In(loc)
				if text := at.Format(time.DateTime); !seen[text] {
					seen[text] = true
					shown = append(shown, at)
				}
			}
			for range 60 {
				s, text := random(rng)
				e := event(t, text)
				after := start.Add(time.Duration(rng.IntN(window)) * time.Second)
				if rng.IntN(3) == 0 {
					after = shown[rng.IntN(len(shown))]
				}
				want := time.Time{}
				for _, minute := range shown {
					for _, sec := range s.secs {
						at := minute.Add(time.Duration(sec) * time.Second)
						if at.After(after) && s.fits(at) && (want.IsZero() || at.Before(want)) {
							want = at
						}
					}
				}
				got, ok := e.Next(after, loc)
				if want.IsZero() { // later than what was looked at
					if last := shown[len(shown)-1]; ok && after.Before(last) && !got.After(last) {
						t.Errorf("%s: %q after %v: %v, and the clock shows no such time", p.name, text, after.In(loc), got)
					}
					continue
				}
				if !ok || !got.Equal(want) {
					t.Errorf("%s: %q after %v: %v, want %v", p.name, text, after.In(loc), got, want)
				}
			}
		}
	}
}

// systemd 252 is asked where no clock changes: near a change it skips times that
// come, and gives up some events with "Infinite loop in calendar calculation".
func TestSystemdAgrees(t *testing.T) {
	systemd, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not here to be asked")
	}
	const calm = 60 * 24 * time.Hour
	for name, days := range map[string][]string{
		"UTC": {"2024-02-20", "2026-12-20"}, "Europe/Berlin": {"2026-05-01", "2026-12-01"}, "America/New_York": {"2026-07-01"},
		"Asia/Kathmandu": {"2026-02-20"}, "Australia/Lord_Howe": {"2026-12-01"}, "America/St_Johns": {"2026-05-20"},
	} {
		loc := place(t, name)
		for _, d := range days {
			start, err := time.ParseInLocation(time.DateOnly, d, time.UTC)
			if err != nil {
				t.Fatal(err)
			}
			rng := rand.New(rand.NewPCG(2, uint64(start.Unix())))
			args := []string{"calendar", "--iterations=4", "--base-time=" + start.Format(time.DateTime) + " UTC"}
			var events []calendar.Event
			for range 40 {
				_, text := random(rng)
				events = append(events, event(t, text))
				args = append(args, event(t, text).String())
			}
			cmd := exec.Command(systemd, args...)
			cmd.Env = []string{"TZ=" + name, "LC_ALL=C"}
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			blocks := strings.Split(strings.TrimSpace(string(out)), "\n\n")
			if len(blocks) != len(events) {
				t.Fatalf("%d answers to %d questions:\n%s", len(blocks), len(events), out)
			}
			for i, e := range events {
				want := elapses(t, blocks[i], name)
				at := start
				for n := 0; ; n++ {
					next, ok := e.Next(at, loc)
					if !ok || next.Sub(start) > calm {
						if n < len(want) && want[n].Sub(start) <= calm {
							t.Errorf("%s: %q from %s: nothing after %v, want %v", name, e, d, at, want[n])
						}
						break
					}
					if n == len(want) && n == 4 {
						break
					}
					if n == len(want) || !next.Equal(want[n]) {
						t.Errorf("%s: %q from %s: %v, want %v of\n%s", name, e, d, next, n, blocks[i])
						break
					}
					at = next
				}
			}
		}
	}
}

// elapses reads the times of one answer of systemd-analyze.
func elapses(t *testing.T, block, place string) (times []time.Time) {
	t.Helper()
	for line := range strings.Lines(block) {
		name, text, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if name != "(in UTC)" && (place != "UTC" || name != "Next elapse" && !strings.HasPrefix(name, "Iter. #")) {
			continue
		}
		if text == "never" {
			continue
		}
		at, err := time.Parse("Mon 2006-01-02 15:04:05 MST", text)
		if err != nil {
			t.Fatal(err)
		}
		times = append(times, at)
	}
	return times
}
