package calendar_test

import (
	"errors"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the tests know the places by their names

	"github.com/holdfast-backup/holdfast/internal/calendar"
)

func event(t testing.TB, s string) calendar.Event {
	t.Helper()
	e, err := calendar.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func place(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func TestEventsAreWrittenInFull(t *testing.T) {
	for in, want := range map[string]string{
		"minutely":                   "*-*-* *:*:00",
		"hourly":                     "*-*-* *:00:00",
		"daily":                      "*-*-* 00:00:00",
		"weekly":                     "mon *-*-* 00:00:00",
		"monthly":                    "*-*-01 00:00:00",
		"quarterly":                  "*-01,04,07,10-01 00:00:00",
		"semiannually":               "*-01,07-01 00:00:00",
		"semi-annually":              "*-01,07-01 00:00:00",
		"yearly":                     "*-01-01 00:00:00",
		"annually":                   "*-01-01 00:00:00",
		"daily UTC":                  "*-*-* 00:00:00 UTC",
		"mon..fri 02:30":             "mon..fri *-*-* 02:30:00",
		"mon,tue":                    "mon,tue *-*-* 00:00:00",
		"*:0/15":                     "*-*-* *:00/15:00",
		"sat *-1..7 15:00":           "sat *-*-01..07 15:00:00",
		"MonDay,Wed..Thursday,sun":   "mon,wed,thu,sun *-*-* 00:00:00",
		"sat..tue":                   "mon,tue,sat,sun *-*-* 00:00:00",
		"mon..sun":                   "mon..sun *-*-* 00:00:00",
		"12:05":                      "*-*-* 12:05:00",
		"30":                         "*-*-* *:30:00",
		"*":                          "*-*-* *:*:00",
		"*:*":                        "*-*-* *:*:00",
		"*:*:*":                      "*-*-* *:*:*",
		"*:3:5":                      "*-*-* *:03:05",
		"0/1:0/5":                    "*-*-* 00..23:00/5:00",
		"*/2:*/20":                   "*-*-* 00/2:00/20:00",
		"*/1:0":                      "*-*-* *:00:00",
		"mon..wed *:30/10":           "mon..wed *-*-* *:30/10:00",
		"mon..fri 8..17,22:0/15":     "mon..fri *-*-* 08..17,22:00/15:00",
		"12..20/3:5":                 "*-*-* 12..18/3:05:00",
		"12/50:5":                    "",
		"12/20:5":                    "*-*-* 12:05:00",
		"5/0:0":                      "*-*-* 05:00:00",
		"*-05":                       "*-*-05 00:00:00",
		"2015-10-21":                 "2015-10-21 00:00:00",
		"2020,2030-12-31 UTC":        "2020,2030-12-31 00:00:00 UTC",
		"2020..2030/4-2-29 23:59:59": "2020..2028/4-02-29 23:59:59",
		"sun  *-*-*   04:00":         "sun *-*-* 04:00:00",
		"mon10:00":                   "mon *-*-* 10:00:00",
	} {
		if want == "" {
			continue // among the refused
		}
		e := event(t, in)
		if e.String() != want {
			t.Errorf("%q is %q, want %q", in, e, want)
		}
		if again := event(t, e.String()); again.String() != want {
			t.Errorf("%q is read back as %q", want, again)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for s, where := range map[string]string{
		"":                                 "at its end",
		"UTC":                              "at its end",
		"monday tuesday":                   `"tuesday"`,
		"mo":                               `"mo"`,
		"mon,":                             "at its end",
		"mon..":                            "at its end",
		"fortnightly":                      `"fortnightly"`,
		"Daily":                            `"Daily"`,
		"24:00":                            `"24:00"`,
		"12:60":                            `"60"`,
		"12:00:60":                         `"60"`,
		"12:":                              "at its end",
		":30":                              `":30"`,
		"12:00:00:00":                      `":00"`,
		"12/50:5":                          `"50:5"`,
		"*/0:00":                           `":00"`,
		"20..10:00":                        `":00"`,
		"13-01":                            `"13-01"`,
		"0-01":                             `"-01"`,
		"01-32":                            `"32"`,
		"01-00":                            "at its end",
		"2200-01-01":                       `"2200-01-01"`,
		"1-2-3-4":                          `"1-2-3-4"`,
		"01-01 ":                           "",
		" daily":                           `" daily"`,
		"daily daily":                      `"daily daily"`,
		"12:00 2020-01-01":                 `" 2020-01-01"`,
		"2020-02~01":                       `"2020-02~01"`,
		"@12345":                           `"@12345"`,
		"12:00 Europe/Berlin":              `" Europe/Berlin"`,
		"12:00:00.5":                       `".5"`,
		"99999999999999999999:00":          `"9999`,
		"1,:0":                             `":0"`,
		"**:0":                             `"*:0"`,
		"ünday":                            `"ünday"`,
		strings.Repeat("1,", 3000) + "1:0": "4096",
	} {
		if where == "" {
			event(t, s)
			continue
		}
		if e, err := calendar.Parse(s); !errors.Is(err, calendar.ErrFormat) || !strings.Contains(err.Error(), where) {
			t.Errorf("%.40q: %v, %v; want it at %s", s, e, err, where)
		}
	}
}

func TestNextTimes(t *testing.T) {
	for _, tc := range []struct{ event, after, next string }{
		{"daily", "2026-03-01 00:00:00", "2026-03-02 00:00:00"},
		{"daily", "2026-02-28 23:59:59", "2026-03-01 00:00:00"},
		{"hourly", "2026-12-31 23:00:00", "2027-01-01 00:00:00"},
		{"*:0/15", "2026-03-01 10:07:30", "2026-03-01 10:15:00"},
		{"*:0/15", "2026-03-01 10:45:00", "2026-03-01 11:00:00"},
		{"mon..fri 02:30", "2026-03-06 02:30:00", "2026-03-09 02:30:00"},
		{"sat *-1..7 15:00", "2026-03-01 00:00:00", "2026-03-07 15:00:00"},
		{"sat *-1..7 15:00", "2026-03-07 15:00:00", "2026-04-04 15:00:00"},
		{"quarterly", "2026-01-01 00:00:00", "2026-04-01 00:00:00"},
		{"yearly", "2026-01-01 00:00:00", "2027-01-01 00:00:00"},
		{"*-02-29", "2026-01-01 00:00:00", "2028-02-29 00:00:00"},
		{"*-02-29", "2096-02-29 00:00:00", "2104-02-29 00:00:00"}, // 2100 is no leap year
		{"mon *-02-29", "2088-03-01 00:00:00", "2112-02-29 00:00:00"},
		{"*-31", "2026-01-31 00:00:00", "2026-03-31 00:00:00"},
		{"2015-10-21", "2015-10-20 12:00:00", "2015-10-21 00:00:00"},
		{"2015-10-21", "2015-10-21 00:00:00", ""},
		{"02-30", "2026-01-01 00:00:00", ""},
		{"2021-02-29", "1970-01-01 00:00:00", ""},
		{"2021..2023-02-29", "1970-01-01 00:00:00", ""},
		{"mon 2024-01-02", "1970-01-01 00:00:00", ""},
		{"*:*:*", "2199-12-31 23:59:58", "2199-12-31 23:59:59"},
		{"*:*:*", "2199-12-31 23:59:59", ""},
		{"1965/5-01-01", "1969-12-31 23:59:59", "1970-01-01 00:00:00"},
		{"10,5:8,4", "2026-03-01 00:00:00", "2026-03-01 05:04:00"},
		{"4..10/2:0", "2026-03-01 05:00:00", "2026-03-01 06:00:00"},
		{"5/2:0", "2026-03-01 23:00:00", "2026-03-02 05:00:00"},
	} {
		after, err := time.Parse(time.DateTime, tc.after)
		if err != nil {
			t.Fatal(err)
		}
		for _, frac := range []time.Duration{0, 999 * time.Millisecond} {
			got, ok := event(t, tc.event).Next(after.Add(frac), time.UTC)
			if text := got.Format(time.DateTime); ok != (tc.next != "") || ok && text != tc.next {
				t.Errorf("%s after %s: %s, %v; want %s", tc.event, tc.after, text, ok, tc.next)
			}
		}
	}
}

func TestClocksThatChange(t *testing.T) {
	for _, tc := range []struct {
		name, place, event, after string
		next                      []string
	}{
		{"what is skipped does not happen", "Europe/Berlin", "02:30", "2026-03-28T00:00:00Z", []string{
			"2026-03-28T02:30:00+01:00", "2026-03-30T02:30:00+02:00", "2026-03-31T02:30:00+02:00",
		}},
		{"hours go on behind the gap", "Europe/Berlin", "*:30", "2026-03-29T00:00:00Z", []string{
			"2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+02:00", "2026-03-29T04:30:00+02:00",
		}},
		{"what comes twice happens the first time", "Europe/Berlin", "02:30", "2026-10-24T20:00:00Z", []string{
			"2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00",
		}},
		{"so hours are once longer", "Europe/Berlin", "*:30", "2026-10-24T23:00:00Z", []string{
			"2026-10-25T01:30:00+02:00", "2026-10-25T02:30:00+02:00", "2026-10-25T03:30:00+01:00",
		}},
		{"asked in the second hour", "Europe/Berlin", "*:0/15", "2026-10-25T01:20:00Z", []string{"2026-10-25T03:00:00+01:00"}},
		{"UTC does not change", "Europe/Berlin", "*:30 UTC", "2026-10-25T00:00:00Z", []string{
			"2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z",
		}},
		{"half an hour", "Australia/Lord_Howe", "*:15", "2026-10-03T15:00:00Z", []string{ // 02:00 becomes 02:30
			"2026-10-04T03:15:00+11:00",
		}},
		{"a day that is not there", "Pacific/Apia", "daily", "2011-12-29T10:00:00Z", []string{ // 30 December 2011 was skipped
			"2011-12-31T00:00:00+14:00", "2012-01-01T00:00:00+14:00",
		}},
		{"a midnight that is not there", "America/Sao_Paulo", "daily", "2018-11-03T12:00:00Z", []string{
			"2018-11-05T00:00:00-02:00",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			at, err := time.Parse(time.RFC3339, tc.after)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range tc.next {
				next, ok := event(t, tc.event).Next(at, place(t, tc.place))
				if got := next.Format(time.RFC3339); !ok || got != want {
					t.Fatalf("after %s: %s, want %s", at.Format(time.RFC3339), got, want)
				}
				at = next
			}
		})
	}
}

func TestMissedRunsAreMadeUpForOnce(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse(time.DateTime, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, tc := range []struct {
		name, event, last, now, next string
		due                          bool
	}{
		{"not yet", "daily", "2026-03-01 00:00:05", "2026-03-01 23:59:59", "2026-03-02 00:00:00", false},
		{"now", "daily", "2026-03-01 00:00:05", "2026-03-02 00:00:00", "2026-03-02 00:00:00", true},
		{"a week was missed", "daily", "2026-03-01 00:00:05", "2026-03-08 12:00:00", "2026-03-02 00:00:00", true},
		{"and made up for", "daily", "2026-03-08 12:00:00", "2026-03-08 12:01:00", "2026-03-09 00:00:00", false},
		{"the clock was wrong", "daily", "2036-01-01 00:00:00", "2026-03-08 12:00:00", "2026-03-09 00:00:00", false},
		{"never again", "2025-01-01", "2026-03-08 12:00:00", "2026-03-08 12:01:00", "", false},
	} {
		next, due, ok := event(t, tc.event).Due(at(tc.last), at(tc.now), time.UTC)
		if due != tc.due || ok != (tc.next != "") || ok && !next.Equal(at(tc.next)) {
			t.Errorf("%s: %v, due %v, %v", tc.name, next, due, ok)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"daily", "mon..fri 8..17,22:0/15", "sat *-1..7 15:00", "2020..2030/4-2-29 23:59:59 UTC", "*:*:*", "fri..tue,thu *-*/3-*/5 */2:*/7:59", "02-30"} {
		f.Add(s, int64(1717600000))
	}
	berlin := place(f, "Europe/Berlin")
	f.Fuzz(func(t *testing.T, s string, unix int64) {
		e, err := calendar.Parse(s)
		if err != nil {
			if !errors.Is(err, calendar.ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		again, err := calendar.Parse(e.String())
		if err != nil || again.String() != e.String() {
			t.Fatalf("%q is written %q, and that %q, %v", s, e, again, err)
		}
		after := time.Unix(unix%5e9, 0)
		next, ok := e.Next(after, berlin)
		twin, alike := again.Next(after, berlin)
		if ok != alike || !next.Equal(twin) || ok && !next.After(after) {
			t.Fatalf("%q after %v: %v and %v", s, after, next, twin)
		}
	})
}

func BenchmarkNext(b *testing.B) {
	berlin := place(b, "Europe/Berlin")
	for _, s := range []string{"*:0/15", "daily", "sat *-1..7 15:00", "mon *-02-29", "02-30", "*:*:*"} {
		e := event(b, s)
		b.Run(strings.ReplaceAll(s, " ", "_"), func(b *testing.B) {
			at := time.Unix(1717600000, 0)
			for b.Loop() {
				e.Next(at, berlin)
			}
		})
	}
}
