package appliancetest

import (
	"bytes"
	"strings"
)

// report collects what a test binary says with -test.v=test2json: there, each
// line of the test runner itself starts with the byte 0x16, so that nothing a test prints is mistaken for one.
type report struct {
	line   func(string) // told of each whole line; may be nil
	tests  []*outcome   // in the order in which they began
	byName map[string]*outcome
	now    *outcome // who is printing
	rest   outcome  // what belongs to no test
	part   []byte   // a line that has not ended
}

// outcome is one test of the guest.
type outcome struct {
	name   string
	status string // PASS, FAIL, SKIP; "": it did not end
	output strings.Builder
}

const (
	marker    = '\x16'
	maxLine   = 64 << 10
	maxOutput = 256 << 10 // of one test
)

func newReport(line func(string)) *report {
	r := &report{line: line, byName: map[string]*outcome{}}
	r.now = &r.rest
	return r
}

func (r *report) Write(p []byte) (int, error) {
	for _, c := range p {
		if c == marker && len(r.part) > 0 { // a test printed half a line
			r.flush()
		}
		r.part = append(r.part, c)
		if c == '\n' || len(r.part) >= maxLine {
			r.flush()
		}
	}
	return len(p), nil
}

func (r *report) flush() {
	if len(r.part) == 0 {
		return
	}
	line := r.part
	r.part = r.part[:0]
	if line[0] == marker {
		line = line[1:]
		r.control(strings.TrimSpace(string(line)))
	} else if r.now.output.Len() < maxOutput {
		r.now.output.Write(line)
	}
	if r.line != nil {
		r.line(string(bytes.TrimRight(line, "\n")))
	}
}

// control reads "=== RUN   TestA/b" and "--- PASS: TestA/b (0.01s)".
func (r *report) control(s string) {
	f := strings.Fields(s)
	if len(f) < 3 {
		return
	}
	switch {
	case f[0] == "===" && f[1] == "RUN":
		t := &outcome{name: f[2]}
		r.tests = append(r.tests, t)
		r.byName[t.name] = t
		r.now = t
	case f[0] == "===":
		if t := r.byName[f[2]]; t != nil {
			r.now = t
		}
	case f[0] == "---":
		if t := r.byName[f[2]]; t != nil {
			t.status = strings.TrimSuffix(f[1], ":")
		}
	}
}

// parent is the longest known test whose name a test's name begins with.
func (r *report) parent(name string) string {
	for {
		i := strings.LastIndexByte(name, '/')
		if i < 0 {
			return ""
		}
		name = name[:i]
		if r.byName[name] != nil {
			return name
		}
	}
}
