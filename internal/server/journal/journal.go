// Package journal reads the log of the machine, through journalctl(1), which has to be
// installed, and whose files the server has to be allowed to read: it is in the group
// systemd-journal.
//
// # Forms
//
// [Reader.Entries] has the form of PBS's mini-journalreader: the cursor of the first
// entry, the entries, each a line "Jan 02 15:04:05 HOST IDENT[PID]: MESSAGE", and the
// cursor of the last. [Reader.Lines] numbers the lines of journalctl's own short form.
//
// # Source
//
// proxmox-backup: src/api2/node/{journal,syslog}.rs; proxmox-mini-journalreader.
package journal

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Reader reads the journal.
type Reader struct {
	Program  string // path of journalctl
	Location *time.Location
}

// Range says which entries are read. Zero values do not count.
type Range struct {
	Since, Until time.Time
	After        string // the entries behind that with this cursor
	Before       string // the entries before that
	Last         int    // only so many, the last
}

// entry is what journalctl says of one in JSON.
type entry struct {
	Cursor string          `json:"__CURSOR"`
	Time   string          `json:"__REALTIME_TIMESTAMP"` // microseconds since 1970
	Host   string          `json:"_HOSTNAME"`
	Ident  string          `json:"SYSLOG_IDENTIFIER"`
	PID    string          `json:"_PID"`
	Text   json.RawMessage `json:"MESSAGE"` // null, or a list of bytes, where it is no text
}

// Entries gives the lines of a range to yield. With Before and Last they are held in
// memory, otherwise one by one.
func (r Reader) Entries(ctx context.Context, g Range, yield func(string) error) error {
	args := []string{"--quiet", "--no-pager", "--output=json", "--output-fields=_HOSTNAME,SYSLOG_IDENTIFIER,_PID,MESSAGE"}
	if !g.Since.IsZero() {
		args = append(args, fmt.Sprintf("--since=@%d", g.Since.Unix()))
	}
	if !g.Until.IsZero() {
		args = append(args, fmt.Sprintf("--until=@%d", g.Until.Unix()))
	}
	if g.After != "" {
		args = append(args, "--after-cursor="+g.After)
	}
	if g.Before != "" && g.Last > 0 {
		return r.before(ctx, args, g, yield)
	}
	if g.Last > 0 {
		args = append(args, fmt.Sprintf("--lines=%d", g.Last))
	}
	cursor := ""
	err := r.each(ctx, args, func(e entry) error {
		if e.Cursor == g.Before {
			return errEnough
		}
		if cursor == "" {
			if err := yield(e.Cursor); err != nil {
				return err
			}
		}
		cursor = e.Cursor
		return yield(r.line(e))
	})
	if err != nil || cursor == "" {
		return err
	}
	return yield(cursor)
}

// before reads backwards from a cursor.
func (r Reader) before(ctx context.Context, args []string, g Range, yield func(string) error) error {
	args = append(args, "--reverse", "--cursor="+g.Before, fmt.Sprintf("--lines=%d", g.Last+1))
	var list []entry
	err := r.each(ctx, args, func(e entry) error {
		if e.Cursor != g.Before && len(list) < g.Last {
			list = append(list, e)
		}
		return nil
	})
	if err != nil || len(list) == 0 {
		return err
	}
	slices.Reverse(list)
	if err := yield(list[0].Cursor); err != nil {
		return err
	}
	for _, e := range list {
		if err := yield(r.line(e)); err != nil {
			return err
		}
	}
	return yield(list[len(list)-1].Cursor)
}

func (r Reader) line(e entry) string {
	micros, _ := strconv.ParseInt(e.Time, 10, 64) // what is no time is 1970
	who := e.Ident
	if who == "" {
		who = "unknown"
	}
	if e.PID != "" {
		who += "[" + e.PID + "]"
	}
	var text string
	if err := json.Unmarshal(e.Text, &text); err != nil {
		text = "(binary data)"
	}
	text = strings.ReplaceAll(text, "\n", " ")
	return fmt.Sprintf("%s %s %s: %s", time.UnixMicro(micros).In(r.Location).Format("Jan 02 15:04:05"), e.Host, who, text)
}

// each runs journalctl and reads what it says, entry by entry.
func (r Reader) each(ctx context.Context, args []string, f func(entry) error) error {
	return r.run(ctx, args, func(text []byte) error {
		var e entry
		if err := json.Unmarshal(text, &e); err != nil {
			return fmt.Errorf("%s says something that is no entry: %w", r.Program, err)
		}
		return f(e)
	})
}

// Page says which lines are read, and of what.
type Page struct {
	Since, Until string // as "2026-01-31" or "2026-01-31 10:00:00"
	Service      string // a unit
	Start, Limit int    // which lines, counted from 1; 0 is 1, and no lines
}

// Lines gives the lines of a page to yield, with their numbers, and returns how many
// there are in all.
func (r Reader) Lines(ctx context.Context, p Page, yield func(n int, text string) error) (total int, err error) {
	args := []string{"--quiet", "--no-pager", "--output=short"}
	for _, a := range [][2]string{{"--since=", p.Since}, {"--until=", p.Until}, {"--unit=", p.Service}} {
		if a[1] != "" {
			args = append(args, a[0]+a[1])
		}
	}
	start := max(1, p.Start)
	err = r.run(ctx, args, func(text []byte) error {
		total++
		if total < start || total >= start+p.Limit {
			return nil
		}
		return yield(total, string(bytes.ToValidUTF8(text, []byte("?"))))
	})
	return total, err
}

// errEnough ends reading without being an error.
var errEnough = errors.New("that is enough")

// maxLine bounds a line that journalctl prints, in bytes.
const maxLine = 1 << 20

// run gives the lines that journalctl prints to f. A line that is too long is cut.
func (r Reader) run(ctx context.Context, args []string, f func([]byte) error) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.Program, args...)
	cmd.Env, cmd.Dir = []string{"LC_ALL=C", "TZ=" + zone(r.Location)}, "/"
	cmd.WaitDelay = time.Second
	var complaint bytes.Buffer
	cmd.Stderr = &bounded{&complaint, 400}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("the journal cannot be read: %w", err)
	}
	err = lines(out, f)
	if err != nil {
		cancel()
		_ = cmd.Wait()
		if errors.Is(err, errEnough) {
			return nil
		}
		return err
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("the journal cannot be read: %w: %s", err, strings.TrimSpace(complaint.String()))
	}
	return nil
}

func zone(l *time.Location) string {
	if l == nil || l == time.Local {
		return ":/etc/localtime"
	}
	return l.String()
}

func lines(in io.Reader, f func([]byte) error) error {
	b := bufio.NewReaderSize(in, 64<<10)
	var line []byte
	for {
		part, err := b.ReadSlice('\n')
		if room := maxLine - len(line); room > 0 {
			line = append(line, part[:min(room, len(part))]...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil && !errors.Is(err, io.EOF):
			return err
		case len(line) > 0:
			if ferr := f(bytes.TrimRight(line, "\n")); ferr != nil {
				return ferr
			}
		}
		if err != nil {
			return nil
		}
		line = line[:0]
	}
}

// bounded keeps the beginning of what is written to it.
type bounded struct {
	b    *bytes.Buffer
	most int
}

func (w *bounded) Write(p []byte) (int, error) {
	if room := w.most - w.b.Len(); room > 0 {
		w.b.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
