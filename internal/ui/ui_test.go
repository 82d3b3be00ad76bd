package ui

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestSizeUsesBinaryUnitsWithAtMostThreeDecimals(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", -5: "-5 B", 1024: "1 KiB", 1536: "1.5 KiB", 1 << 20: "1 MiB",
		1<<30 + 1<<29: "1.5 GiB", 1<<20 - 1: "1023.999 KiB", 1234567: "1.177 MiB", 1<<63 - 1: "8 EiB",
	} {
		if got := Size(n); got != want {
			t.Errorf("Size(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestParseSizeReadsWhatPeopleWrite(t *testing.T) {
	for s, want := range map[string]int64{
		"4096": 4096, "64K": 65536, "64KiB": 65536, "64Ki": 65536, "64kb": 64000, "1.5 GiB": 3 << 29,
		"10M/s": 10 << 20, " 1 T ": 1 << 40, "7b": 7,
	} {
		if got, err := ParseSize(s); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v, want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "M", "1X", "1.2.3", "-1", "1KiBs", "99999999999T", "nan", "1e9"} {
		if got, err := ParseSize(s); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", s, got)
		}
	}
}

func TestTableAlignsByRunesAndLeavesNoBlanksAtLineEnds(t *testing.T) {
	tab := Table{Columns: []Column{{Title: "NAME"}, {"SIZE", Right}, {Title: "NOTE"}}}
	tab.Add("größe", "1", "x")
	tab.Add("a", "1000")
	var b bytes.Buffer
	if err := tab.Write(&b, Palette{}); err != nil {
		t.Fatal(err)
	}
	want := "NAME    SIZE   NOTE\ngröße      1   x\na       1000\n"
	if b.String() != want {
		t.Fatalf("got\n%q\nwant\n%q", b.String(), want)
	}
}

func TestForeignTextCannotSpeakToTheTerminal(t *testing.T) {
	if got := Clean("a\x1b[31mb\n\u202ec\xff"); strings.ContainsAny(got, "\x1b\n\u202e") {
		t.Fatalf("got %q", got)
	}
	if got := CleanText("a\n\tb\x07"); got != "a\n\tb\ufffd" {
		t.Fatalf("got %q", got)
	}
}

func TestDurationShowsTheTwoUnitsThatMatter(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 ms", 999 * time.Millisecond: "999 ms", 3250 * time.Millisecond: "3.2 s", 59900 * time.Millisecond: "59 s",
		4*time.Minute + 7*time.Second: "4 min 07 s", 2*time.Hour + 5*time.Minute: "2 h 05 min", 76 * time.Hour: "3 d 04 h",
	} {
		if got := Duration(d); got != want {
			t.Errorf("Duration(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestProgressInALogIsAtMostOneLineAMinute(t *testing.T) {
	now := time.Unix(0, 0)
	var b bytes.Buffer
	p := NewProgress(ProgressOptions{Out: &b, Title: "backup a.img", Now: func() time.Time { return now }})
	for range 150 { // two and a half minutes
		now = now.Add(time.Second)
		p.Update(int64(now.Unix())<<20, 200<<20, "1 MiB known")
	}
	p.Done(true)
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	if len(lines) != 4 {
		t.Fatalf("%d lines:\n%s", len(lines), b.String())
	}
	if want := "backup a.img: 60 MiB of 200 MiB (30 %) in 1 min 00 s, 1 MiB/s; 1 MiB known"; lines[1] != want {
		t.Errorf("got  %q\nwant %q", lines[1], want)
	}
	if !strings.HasPrefix(lines[3], "backup a.img: finished, 150 MiB of 200 MiB") {
		t.Errorf("last line %q", lines[3])
	}
}

func TestProgressOfItemsSaysWhatTheyAre(t *testing.T) {
	now := time.Unix(0, 0)
	var b bytes.Buffer
	p := NewProgress(ProgressOptions{Out: &b, Title: "gc", Unit: Items, Now: func() time.Time { return now }})
	now = now.Add(time.Minute)
	p.Update(5, 20, "objects swept")
	p.Done(true)
	want := "gc: started\ngc: 5 of 20 (25 %) objects swept in 1 min 00 s\ngc: finished, 20 objects swept in 1 min 00 s\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

func TestForcedBarEndsWhetherTheJobDidOrNot(t *testing.T) {
	for _, ok := range []bool{true, false} {
		var b bytes.Buffer
		p := NewProgress(ProgressOptions{Out: &b, Title: "verify", Unit: Bytes, Force: true})
		p.Update(1<<20, 4<<20, "2 MiB known")
		p.Update(4<<20, 4<<20, "2 MiB known")
		p.Done(ok)
		p.Done(ok)
		p.Update(1, 2, "late")
		if !strings.Contains(b.String(), "verify") {
			t.Errorf("ok=%v: drew %q", ok, b.String())
		}
	}
}

func TestPaletteLeavesPipesAlone(t *testing.T) {
	p := NewPalette(&bytes.Buffer{}, func(string) string { return "" })
	if got := p.Red("x") + p.Bold("y"); got != "xy" {
		t.Fatalf("got %q", got)
	}
}
