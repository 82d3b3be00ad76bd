package backupserver

import (
	"fmt"
	"strings"
	"testing"
)

// A client that fails for ever does not fill the disk with it, and what becomes of the
// backup is in the log nevertheless.
func TestTheLogOfASessionHasAnEnd(t *testing.T) {
	var lines []string
	b := &Session{conf: Config{Log: func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }}}
	for range 3 * maxNotes {
		b.note("GET /nonsense: not found")
	}
	b.log("successfully finished backup")
	if len(lines) != maxNotes+1 || lines[maxNotes-1] != "more of such is not noted" || lines[maxNotes] != "successfully finished backup" {
		t.Errorf("%d lines, at the end %q", len(lines), lines[max(0, len(lines)-2):])
	}
}

func TestALongPathIsCutInTheLog(t *testing.T) {
	s, _ := store(t)
	p := begin(t, config(s, vm100))
	p.refused(404, "", "GET", "/"+strings.Repeat("x", 5000), nil, nil)
	p.mu.Lock()
	defer p.mu.Unlock()
	if last := p.log[len(p.log)-1]; len(last) > 512 {
		t.Errorf("a line has %d bytes", len(last))
	}
}
