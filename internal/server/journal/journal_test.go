//go:build unix

package journal_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/server/journal"
)

// fake is a journalctl that writes its arguments to a file, and says something.
func fake(t *testing.T, script string) (r journal.Reader, args func() string) {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "journalctl")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho \"$@\" > "+dir+"/args\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return journal.Reader{Program: program, Location: time.UTC}, func() string {
		b, err := os.ReadFile(dir + "/args")
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
}

func entries(t *testing.T, r journal.Reader, g journal.Range) (list []string, err error) {
	t.Helper()
	err = r.Entries(t.Context(), g, func(s string) error { list = append(list, s); return nil })
	return list, err
}

const three = `cat <<'END'
{"__CURSOR":"s=1","__REALTIME_TIMESTAMP":"1795651200000000","_HOSTNAME":"pbs1","SYSLOG_IDENTIFIER":"sshd","_PID":"7","MESSAGE":"one"}
{"__CURSOR":"s=2","__REALTIME_TIMESTAMP":"1795651201000000","_HOSTNAME":"pbs1","MESSAGE":[1,2]}
{"__CURSOR":"s=3","__REALTIME_TIMESTAMP":"1795651202000000","_HOSTNAME":"pbs1","SYSLOG_IDENTIFIER":"x","MESSAGE":"two\nlines"}
END`

func TestEntriesStandBetweenTheirCursors(t *testing.T) {
	r, args := fake(t, three)
	got, err := entries(t, r, journal.Range{Since: time.Unix(5, 0), Until: time.Unix(9, 0), After: "s=0"})
	want := []string{"s=1", "Nov 26 00:00:00 pbs1 sshd[7]: one", "Nov 26 00:00:01 pbs1 unknown: (binary data)", "Nov 26 00:00:02 pbs1 x: two lines", "s=3"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	if got := args(); !strings.HasSuffix(got, " --since=@5 --until=@9 --after-cursor=s=0") {
		t.Errorf("%s", got)
	}
	got, err = entries(t, r, journal.Range{Before: "s=3"})
	if err != nil || !slices.Equal(got, slices.Concat(want[:3], []string{"s=2"})) {
		t.Errorf("%q, %v", got, err)
	}
	if got, err = entries(t, r, journal.Range{Last: 3}); err != nil || len(got) != 5 || !strings.HasSuffix(args(), " --lines=3") {
		t.Errorf("%q, %v, %s", got, err, args())
	}
	// Backwards from a cursor: journalctl says the newest first, the cursor's own included.
	got, err = entries(t, r, journal.Range{Before: "s=1", Last: 2})
	if err != nil || !slices.Equal(got, []string{"s=3", want[3], want[2], "s=2"}) || !strings.HasSuffix(args(), " --reverse --cursor=s=1 --lines=3") {
		t.Errorf("%q, %v, %s", got, err, args())
	}
}

func TestLinesAreNumberedAndCounted(t *testing.T) {
	r, args := fake(t, "seq 1 200000")
	var got []string
	total, err := r.Lines(t.Context(), journal.Page{Since: "2026-01-31", Service: "ssh", Start: 150000, Limit: 2}, func(n int, text string) error {
		got = append(got, fmt.Sprint(n, " ", text))
		return nil
	})
	if err != nil || total != 200000 || !slices.Equal(got, []string{"150000 150000", "150001 150001"}) {
		t.Errorf("%d %q %v", total, got, err)
	}
	if got := args(); !strings.HasSuffix(got, " --since=2026-01-31 --unit=ssh") {
		t.Errorf("%s", got)
	}
}

func TestAJournalThatCannotBeReadSaysWhy(t *testing.T) {
	r, _ := fake(t, "echo No journal files were opened >&2; exit 1")
	if _, err := entries(t, r, journal.Range{}); err == nil || !strings.Contains(err.Error(), "No journal files") {
		t.Errorf("%v", err)
	}
	r, _ = fake(t, "echo nonsense")
	if _, err := entries(t, r, journal.Range{}); err == nil || !strings.Contains(err.Error(), "no entry") {
		t.Errorf("%v", err)
	}
	r.Program = "/nonexistent/journalctl"
	if _, err := entries(t, r, journal.Range{}); err == nil {
		t.Error("a program that is not there")
	}
	// Who does not listen any more ends it, however much there is.
	r, _ = fake(t, "while :; do echo x; done")
	gone := errors.New("gone")
	if _, err := r.Lines(t.Context(), journal.Page{Limit: 1}, func(int, string) error { return gone }); !errors.Is(err, gone) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r, _ = fake(t, "echo first; sleep 600")
	if _, err := r.Lines(ctx, journal.Page{Limit: 1}, func(int, string) error { cancel(); return nil }); err == nil {
		t.Error("it was not ended")
	}
}

func TestALineHasAnEnd(t *testing.T) {
	r, _ := fake(t, "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo next")
	var sizes []int
	if _, err := r.Lines(t.Context(), journal.Page{Limit: 5}, func(_ int, text string) error { sizes = append(sizes, len(text)); return nil }); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(sizes, []int{1 << 20, 4}) {
		t.Errorf("%d", sizes)
	}
}
