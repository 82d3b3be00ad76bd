package tasks

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/upid"
)

// Kind is how a task ended.
type Kind string

// The kinds, as the filters of listings name them.
const (
	OK      Kind = "ok"
	Warned  Kind = "warning"
	Failed  Kind = "error"
	Unknown Kind = "unknown" // its process died
)

// State is the end of a task.
type State struct {
	Kind     Kind
	End      int64 // seconds since 1970-01-01 UTC
	Warnings int
	Text     string // of an error
}

// String is the state as the archive and the API have it.
func (s State) String() string {
	switch s.Kind {
	case OK:
		return "OK"
	case Warned:
		return "WARNINGS: " + strconv.Itoa(s.Warnings)
	case Failed:
		return s.Text
	}
	return "unknown"
}

// last is the state as the last line of a log has it.
func (s State) last() string {
	if s.Kind == Failed {
		return "ERROR: " + s.Text
	}
	return s.String()
}

// parseState reads either form.
func parseState(text string, end int64) (State, bool) {
	s := State{End: end, Kind: Failed, Text: strings.TrimPrefix(text, "ERROR: ")}
	n, warned := strings.CutPrefix(text, "WARNINGS: ")
	switch {
	case text == "":
		return State{}, false
	case text == "OK":
		return State{Kind: OK, End: end}, true
	case text == "unknown":
		return State{Kind: Unknown, End: end}, true
	case warned:
		count, err := strconv.Atoi(n)
		return State{Kind: Warned, End: end, Warnings: count}, err == nil && count >= 0
	}
	return s, true
}

// Info is a task in a listing.
type Info struct {
	ID    upid.UPID
	State *State // nil: it runs
}

// line is the task in one of the files.
func (i Info) line() string {
	if i.State == nil {
		return i.ID.String() + "\n"
	}
	return fmt.Sprintf("%s %08X %s\n", i.ID, i.State.End, i.State)
}

// parseLine reads a line of active or archive.
func parseLine(line string) (Info, bool) {
	text, rest, ended := strings.Cut(line, " ")
	id, err := upid.Parse(text)
	if err != nil {
		return Info{}, false
	}
	if !ended {
		return Info{ID: id}, true
	}
	hex, state, _ := strings.Cut(rest, " ")
	end, err := strconv.ParseInt(hex, 16, 64)
	if err != nil {
		return Info{}, false
	}
	s, ok := parseState(state, end)
	return Info{id, &s}, ok
}

// readEnd finds the state in the last lines of a log. A log without one belongs
// to a task that was cut off: its end is the time of its last line.
func readEnd(tail string, start int64) State {
	lines := strings.Split(strings.TrimRight(tail, "\n"), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		when, text, ok := strings.Cut(lines[i], ": ")
		t, err := time.Parse(time.RFC3339, when)
		if !ok || err != nil {
			continue
		}
		if last, ok := strings.CutPrefix(text, "TASK "); ok {
			if s, ok := parseState(last, t.Unix()); ok {
				return s
			}
		}
		return State{Kind: Unknown, End: t.Unix()}
	}
	return State{Kind: Unknown, End: start}
}
