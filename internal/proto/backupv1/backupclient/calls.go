package backupclient

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/backupv1"
	"github.com/holdfast-backup/holdfast/internal/proto/repoerr"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
	"github.com/holdfast-backup/holdfast/internal/proto/upgrade"
)

// wire makes the calls of the protocol, one at a time for each caller.
type wire struct{ conn *upgrade.Client }

// body is what a call sends beside its query. Nobody looks at data when the call
// has returned.
type body struct {
	data []byte
	kind string // content type
}

// call makes a call; v gets the data of the answer, nil if that does not matter.
func (w wire) call(ctx context.Context, method, path string, q url.Values, b body, v any) error {
	from := &lent{data: b.data}
	defer func() { _ = from.Close() }()
	resp, err := w.do(ctx, method, path, q, from, b.kind)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	return repoerr.FromWire(rest.Answer(resp, v))
}

func (w wire) do(ctx context.Context, method, path string, q url.Values, from *lent, kind string) (*http.Response, error) {
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, method, path, nil)
	if err != nil {
		return nil, err
	}
	if from != nil && len(from.data) > 0 {
		r.Body, r.ContentLength = from, int64(len(from.data))
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	return w.conn.Do(r)
}

// lent is a body whose memory its owner wants back: net/http may still read a
// body when the call has failed or was answered early. No Read touches data
// when Close has returned.
type lent struct {
	mu     sync.Mutex
	data   []byte
	read   int
	closed bool
}

func (l *lent) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return 0, fs.ErrClosed
	case l.read == len(l.data):
		return 0, io.EOF
	}
	n := copy(p, l.data[l.read:])
	l.read += n
	return n, nil
}

func (l *lent) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	return nil
}

const octets = "application/octet-stream"

// previousTime is that of the base; 0 when there is none.
func (w wire) previousTime(ctx context.Context) (int64, error) {
	var t *int64
	if err := w.call(ctx, http.MethodGet, "/previous_backup_time", nil, body{}, &t); err != nil {
		return 0, fmt.Errorf("time of the previous backup: %w", err)
	}
	if t == nil {
		return 0, nil
	}
	return *t, nil
}

// previous copies a file of the base, at most most bytes of it.
func (w wire) previous(ctx context.Context, name names.Archive, to io.Writer, most int64) error {
	resp, err := w.do(ctx, http.MethodGet, "/previous", url.Values{"archive-name": {string(name)}}, nil, "")
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := rest.Refused(resp); err != nil {
		return repoerr.FromWire(err)
	}
	n, err := io.Copy(to, io.LimitReader(resp.Body, most+1))
	if err == nil && n > most {
		err = fmt.Errorf("it is longer than %d bytes", most)
	}
	return err
}

func (w wire) createFixed(ctx context.Context, c backupv1.CreateFixed) (wid int, err error) {
	err = w.call(ctx, http.MethodPost, "/fixed_index", c.Values(), body{}, &wid)
	return wid, err
}

func (w wire) createDynamic(ctx context.Context, c backupv1.CreateDynamic) (wid int, err error) {
	err = w.call(ctx, http.MethodPost, "/dynamic_index", c.Values(), body{}, &wid)
	return wid, err
}

func (w wire) upload(ctx context.Context, kind names.Kind, u backupv1.Upload, raw []byte) error {
	var d digest.Digest
	if err := w.call(ctx, http.MethodPost, "/"+word(kind)+"_chunk", u.Values(), body{raw, octets}, &d); err != nil {
		return err
	}
	if d != u.Digest {
		return fmt.Errorf("the server calls it %s", d)
	}
	return nil
}

func (w wire) append(ctx context.Context, kind names.Kind, a backupv1.Append) error {
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return w.call(ctx, http.MethodPut, "/"+word(kind)+"_index", nil, body{text, "application/json"}, nil)
}

func (w wire) close(ctx context.Context, kind names.Kind, c backupv1.Close) error {
	return w.call(ctx, http.MethodPost, "/"+word(kind)+"_close", c.Values(), body{}, nil)
}

func (w wire) blob(ctx context.Context, name names.Archive, raw []byte) error {
	return w.call(ctx, http.MethodPost, "/blob", backupv1.Blob{Name: name, Encoded: len(raw)}.Values(), body{raw, octets}, nil)
}

func (w wire) finish(ctx context.Context) error {
	return w.call(ctx, http.MethodPost, "/finish", nil, body{}, nil)
}

// word is what a kind of index is called in paths.
func word(kind names.Kind) string {
	if kind == names.Fidx {
		return "fixed"
	}
	return "dynamic"
}
