package tasks

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/upid"
)

// Task is a task of this process. It is safe for concurrent use.
type Task struct {
	log    *Log
	id     upid.UPID
	ctx    context.Context
	cancel context.CancelCauseFunc
	over   chan struct{}

	mu       sync.Mutex
	file     *os.File // nil when the task has ended
	warnings int
	aborted  bool
}

// ID is the task's identifier.
func (t *Task) ID() upid.UPID { return t.id }

// Context ends when the task is to stop.
func (t *Task) Context() context.Context { return t.ctx }

// Done is closed when the task has ended.
func (t *Task) Done() <-chan struct{} { return t.over }

// Logf writes into the task's log. A log that cannot be written stops no task.
func (t *Task) Logf(format string, args ...any) { t.write(fmt.Sprintf(format, args...)) }

// Warnf writes a warning, which shows in the state of the task.
func (t *Task) Warnf(format string, args ...any) {
	t.mu.Lock()
	t.warnings++
	t.mu.Unlock()
	t.write("WARN: " + fmt.Sprintf(format, args...))
}

// End ends the task, with an error or as done. Only the first call counts.
func (t *Task) End(err error) {
	t.mu.Lock()
	if t.file == nil {
		t.mu.Unlock()
		return
	}
	s := State{Kind: OK, End: t.log.opt.Now().Unix()}
	switch {
	case err != nil:
		s.Kind, s.Text = Failed, oneLine(err.Error())
	case t.warnings > 0:
		s.Kind, s.Warnings = Warned, t.warnings
	}
	t.line("TASK " + s.last())
	_ = t.file.Close() // what it says is not needed to know the state
	t.file = nil
	t.mu.Unlock()

	t.cancel(nil)
	if t.log.opt.Ended != nil {
		t.log.opt.Ended(t.id, s)
	}
	t.log.forget(t)
	if err := t.log.update(nil); err != nil {
		t.log.opt.Log.Error("the list of tasks was not updated", "upid", t.id.String(), "error", err)
	}
	close(t.over)
	t.log.ended.Done()
}

func (t *Task) abort(cause error) {
	t.mu.Lock()
	first := !t.aborted && t.file != nil
	t.aborted = true
	t.mu.Unlock()
	if first {
		t.write("received abort request ...")
		t.cancel(cause)
	}
}

func (t *Task) write(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for line := range strings.Lines(text) {
		t.line(strings.TrimRight(line, "\r\n"))
	}
	if text == "" {
		t.line("")
	}
}

// line writes one line in one call, so that readers see whole ones. t.mu is held.
func (t *Task) line(text string) {
	if t.file == nil {
		return
	}
	text = strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > maxLine {
		text = strings.ToValidUTF8(text[:maxLine], "") + "..."
	}
	_, _ = fmt.Fprintf(t.file, "%s: %s\n", stamp(t.log.opt.Now().In(t.log.opt.Location)), text)
}

// maxLine bounds the texts in a log, in bytes: the end of a log that is looked
// at for the state of a task holds the longest.
const maxLine = 4 << 10

// stamp is a time in RFC 3339, never with 'Z': it has always 25 bytes.
func stamp(t time.Time) string { return t.Format("2006-01-02T15:04:05-07:00") }

func oneLine(s string) string {
	s = strings.Join(strings.Fields(strings.ReplaceAll(s, "\n", "; ")), " ")
	if len(s) > maxLine-64 {
		s = strings.ToValidUTF8(s[:maxLine-64], "") + "..."
	}
	if s == "" {
		return "it failed and does not say why"
	}
	return s
}
