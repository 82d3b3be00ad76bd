package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/upid"
	"github.com/holdfast-backup/holdfast/internal/proto/items"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
)

// TaskError is a task of the server that did not end well.
type TaskError struct {
	UPID   string
	Status string // what the server says
}

func (e *TaskError) Error() string {
	return fmt.Sprintf("the server's task failed: %s (%s)", e.Status, e.UPID)
}

const (
	logLines = 500 // that are asked for at a time
	poll     = time.Second
)

// follow waits for a task and hands out the lines of its log. When ctx ends, the
// task is asked to stop, as an interrupted job in a directory does.
func (r *Repository) follow(ctx context.Context, id string, line func(string)) error {
	if _, err := upid.Parse(id); err != nil {
		return fmt.Errorf("task: %w", err)
	}
	path := "/nodes/localhost/tasks/" + escape(id)
	err := r.lines(ctx, path, line)
	if err == nil {
		var st items.TaskStatus
		if err := r.call(ctx, http.MethodGet, path+"/status", nil, &st); err != nil {
			return fmt.Errorf("status of task %s: %w", id, err)
		}
		if st.ExitStatus != "OK" && !strings.HasPrefix(st.ExitStatus, "WARNINGS") {
			return &TaskError{id, st.ExitStatus}
		}
		return nil
	}
	if ctx.Err() != nil {
		const patience = 10 * time.Second
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		if serr := r.call(stop, http.MethodDelete, path, nil, nil); serr != nil {
			err = errors.Join(err, fmt.Errorf("stop task %s: %w", id, serr))
		}
	}
	return err
}

// lines reads a log until the task has ended.
func (r *Repository) lines(ctx context.Context, path string, line func(string)) error {
	for last := 0; ; {
		var page struct {
			Data   []items.LogLine `json:"data"`
			Total  int             `json:"total"`
			Active bool            `json:"active"`
		}
		q := url.Values{"start": {strconv.Itoa(last + 1)}, "limit": {strconv.Itoa(logLines)}, "test-status": {"true"}}
		err := r.calling(ctx, http.MethodGet,
			func() (*http.Request, error) { return r.request(ctx, http.MethodGet, path+"/log", q) },
			func(resp *http.Response) error { return rest.AnswerAll(resp, &page) })
		if err != nil {
			return fmt.Errorf("log of a task: %w", err)
		}
		before := last
		for _, l := range page.Data {
			if l.N > last {
				last = l.N
				line(l.Text)
			}
		}
		switch {
		case last > before && last < page.Total: // there is more
		case !page.Active:
			return nil
		default:
			if err := r.opt.Sleep(ctx, poll); err != nil {
				return err
			}
		}
	}
}

// escape encodes every byte of a path component but letters and digits, as the
// existing client does.
func escape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
