package calendar_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/calendar"
)

func TestSpansOfTime(t *testing.T) {
	const day = 24 * time.Hour
	for in, want := range map[string]time.Duration{
		"2":                       2 * time.Second,
		"2s":                      2 * time.Second,
		" 2s 2 s 2":               6 * time.Second,
		"1h 30min":                90 * time.Minute,
		"1d2h3m":                  26*time.Hour + 3*time.Minute,
		"26h 180s":                26*time.Hour + 3*time.Minute,
		"0y 0M 0w 1d 2h 3m":       26*time.Hour + 3*time.Minute,
		"55s500ms":                55500 * time.Millisecond,
		"300ms20s 5day":           5*day + 20300*time.Millisecond,
		"1msec 1ms":               2 * time.Millisecond,
		"1usec 1us 1µs":           3 * time.Microsecond,
		"1nsec 1ns":               2,
		"1hours 1hour 1hr 1h":     4 * time.Hour,
		"1weeks 1 week 1w":        21 * day,
		"1months 1month 1M":       3 * 2630016 * time.Second,
		"1years 1year 1y":         3 * 31557600 * time.Second,
		"0":                       0,
		"9223372036854775807 ns ": 1<<63 - 1,
	} {
		got, err := calendar.ParseSpan(in)
		if got != want || err != nil {
			t.Errorf("%q is %v, %v, want %v", in, got, err, want)
		}
		if again, err := calendar.ParseSpan(calendar.FormatSpan(got)); again != got || err != nil {
			t.Errorf("%v is written %q and read as %v, %v", got, calendar.FormatSpan(got), again, err)
		}
	}
	for _, s := range []string{"", " ", "h", "1x", "1.5h", "-1h", "1h-", "300y", "9223372036854775808ns", "9223372037s", "99999999999999999999", "1H", "1m\n"} {
		if d, err := calendar.ParseSpan(s); !errors.Is(err, calendar.ErrFormat) {
			t.Errorf("%q is %v, %v", s, d, err)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0s", -1: "0s", 90 * time.Minute: "1h 30m", 1500 * time.Millisecond: "1s 500ms", 12 * 2630016 * time.Second: "1y 43m 12s", 40 * day: "1M 1w 2d 13h 26m 24s",
	} {
		if got := calendar.FormatSpan(d); got != want {
			t.Errorf("%d is written %q, want %q", d, got, want)
		}
	}
}

func FuzzSpan(f *testing.F) {
	f.Add("1y 2M 3w 4d 5h 6m 7s 8ms 9us 10ns")
	f.Fuzz(func(t *testing.T, s string) {
		d, err := calendar.ParseSpan(s)
		if err != nil {
			if !errors.Is(err, calendar.ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		text := calendar.FormatSpan(d)
		if again, err := calendar.ParseSpan(text); again != d || err != nil || d < 0 || strings.Contains(text, "  ") {
			t.Fatalf("%q is %v, written %q, read as %v, %v", s, d, text, again, err)
		}
	})
}
