package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-backup/holdfast/internal/proto/repoerr"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
	"github.com/holdfast-backup/holdfast/internal/proto/trust"
)

// request makes a request of a call below /api2/json: parameters go into the
// query, or into a form where there is a body.
func (r *Repository) request(ctx context.Context, method, path string, q url.Values) (*http.Request, error) {
	u := "https://" + (&url.URL{Host: r.addr.Server()}).String()[len("//"):] + "/api2/json" + path // with its zone escaped
	var body io.Reader
	if method == http.MethodPost || method == http.MethodPut {
		body = strings.NewReader(q.Encode())
	} else if len(q) > 0 {
		u += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	req.Header.Set("User-Agent", r.opt.Agent)
	return req, nil
}

// pauses are before the second and third time that a call which only asks is
// made.
var pauses = []time.Duration{500 * time.Millisecond, 2 * time.Second}

// call makes a call; v gets the data of the answer, nil if that does not matter.
func (r *Repository) call(ctx context.Context, method, path string, q url.Values, v any) error {
	return r.calling(ctx, method,
		func() (*http.Request, error) { return r.request(ctx, method, path, q) },
		func(resp *http.Response) error { return rest.Answer(resp, v) })
}

// calling makes a request, again where that is safe, and reads the answer.
func (r *Repository) calling(ctx context.Context, method string, build func() (*http.Request, error), read func(*http.Response) error) error {
	for again := 0; ; again++ {
		broken, err := r.once(ctx, build, read)
		if !broken || method != http.MethodGet || again == len(pauses) {
			return err
		}
		if serr := r.opt.Sleep(ctx, pauses[again]); serr != nil {
			return err
		}
	}
}

// once makes a request, and again with a new ticket if the old one is refused.
// broken says that the connection failed.
func (r *Repository) once(ctx context.Context, build func() (*http.Request, error), read func(*http.Response) error) (broken bool, err error) {
	for first := true; ; first = false {
		req, err := build()
		if err != nil {
			return false, err
		}
		if err := r.auth.sign(ctx, req); err != nil {
			return false, err
		}
		resp, err := r.http.Do(req)
		if err != nil {
			return ctx.Err() == nil && passing(err), r.failed(plain(ctx, err))
		}
		err = read(resp)
		_ = resp.Body.Close() // it was read, or is of no use
		e, refused := errors.AsType[*rest.Error](err)
		switch {
		case err == nil:
			return false, nil
		case refused && e.Status == http.StatusUnauthorized && first && r.auth.expired(req):
			continue
		case refused:
			return false, r.refused(err)
		}
		return false, r.failed(cause(ctx, err))
	}
}

// passing reports a failure that may be over soon.
func passing(err error) bool {
	_, untrusted := errors.AsType[*trust.UntrustedError](err)
	_, unknown := errors.AsType[*net.DNSError](err)
	return !untrusted && !unknown && !errors.Is(err, syscall.ECONNREFUSED)
}

// failed says which server it was.
func (r *Repository) failed(err error) error {
	return fmt.Errorf("server %s: %w", r.addr.Server(), err)
}

// refused gives a server's refusal its kind.
func (r *Repository) refused(err error) error {
	err = repoerr.FromWire(err)
	if e, ok := errors.AsType[*rest.Error](err); ok && e.Status == http.StatusUnauthorized {
		return fmt.Errorf("%w: %s as %s: %w", ErrLogin, r.addr.Server(), r.addr.Auth, err)
	}
	return r.failed(err)
}

// plain takes method and URL, which say nothing to people, off an error of
// net/http.
func plain(ctx context.Context, err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return cause(ctx, err)
}

// upload makes a POST with a raw body.
func (r *Repository) upload(ctx context.Context, path string, q url.Values, raw []byte) error {
	build := func() (*http.Request, error) {
		req, err := r.request(ctx, http.MethodPost, path, nil)
		if err != nil {
			return nil, err
		}
		req.URL.RawQuery = q.Encode()
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(raw)), int64(len(raw))
		req.GetBody = nil
		req.Header.Set("Content-Type", "application/octet-stream")
		return req, nil
	}
	return r.calling(ctx, http.MethodPost, build, func(resp *http.Response) error { return rest.Answer(resp, nil) })
}
