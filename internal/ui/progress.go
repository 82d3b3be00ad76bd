package ui

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Unit says what a progress counts.
type Unit uint8

// The units.
const (
	Bytes Unit = iota
	Items
)

// Progress shows how far one job is. Its methods may be called from several
// goroutines, often: an update costs a lock and a few stores.
type Progress interface {
	// Update says that done of total are finished. A total of 0 or less is not
	// known yet. note is shown behind the figures: of bytes what was saved so far,
	// of items what they are, as "chunks read".
	Update(done, total int64, note string)
	// Done ends the display. ok leaves the last state as finished, else it
	// stays where it was.
	Done(ok bool)
}

// ProgressOptions say where and how.
type ProgressOptions struct {
	Out   io.Writer // standard error
	Title string    // "backup drive.img"
	Unit  Unit
	Force bool             // bars even where Out is no terminal (--progress)
	Quiet bool             // nothing at all
	Now   func() time.Time // the clock of the plain lines
}

// NewProgress starts to show a job: a bar on a terminal, else plain lines.
func NewProgress(o ProgressOptions) Progress {
	switch {
	case o.Quiet:
		return silent{}
	case o.Force || IsTerminal(o.Out):
		return newBar(o)
	}
	return newLines(o)
}

type silent struct{}

func (silent) Update(int64, int64, string) {}
func (silent) Done(bool)                   {}

// lines is progress for logs.
type lines struct {
	o     ProgressOptions
	start time.Time

	mu    sync.Mutex
	last  time.Time // of the last line
	done  int64
	total int64
	note  string
}

// lineEvery is how often a log hears of a job.
const lineEvery = time.Minute

func newLines(o ProgressOptions) *lines {
	if o.Now == nil {
		o.Now = time.Now
	}
	l := &lines{o: o, start: o.Now()}
	l.last = l.start
	fmt.Fprintf(o.Out, "%s: started\n", o.Title)
	return l
}

func (l *lines) Update(done, total int64, note string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done, l.total, l.note = done, total, note
	now := l.o.Now()
	if now.Sub(l.last) < lineEvery {
		return
	}
	l.last = now
	fmt.Fprintf(l.o.Out, "%s: %s\n", l.o.Title, l.state(now))
}

func (l *lines) Done(ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	word := "stopped, "
	if ok {
		word = "finished, "
		if l.o.Unit == Items { // the last step is seldom told
			l.done = l.total
		}
	}
	fmt.Fprintf(l.o.Out, "%s: %s%s\n", l.o.Title, word, l.state(l.o.Now()))
}

// state is "1.5 GiB of 8 GiB (18.8 %) in 4 min 02 s, 6.4 MiB/s; 1 GiB known", and of
// items "5 of 20 (25.0 %) chunks read in 4 min 02 s".
func (l *lines) state(now time.Time) string {
	span := now.Sub(l.start)
	if l.o.Unit == Items && l.total <= 0 && l.note == "" { // nothing was told
		return "in " + Duration(span)
	}
	s := count(l.o.Unit, l.done)
	if l.total > 0 && l.done != l.total {
		s += fmt.Sprintf(" of %s (%s)", count(l.o.Unit, l.total), Ratio(l.done, l.total))
	}
	if l.o.Unit == Items {
		if l.note != "" {
			s += " " + l.note
		}
		return s + " in " + Duration(span)
	}
	s += " in " + Duration(span)
	if span > 0 {
		s += ", " + Rate(l.done, span)
	}
	if l.note != "" {
		s += "; " + l.note
	}
	return s
}

func count(u Unit, n int64) string {
	if u == Bytes {
		return Size(n)
	}
	return fmt.Sprint(n)
}
