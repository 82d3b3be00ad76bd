package limit

import (
	"context"
	"io"
	"net/http"

	"github.com/holdfast-backup/holdfast/internal/throttle"
)

// Transport returns next with bodies held to rates: those of requests to up,
// those of answers to down. A nil limiter is no limit.
func Transport(next http.RoundTripper, up, down *throttle.Limiter) http.RoundTripper {
	if up == nil && down == nil {
		return next
	}
	return &transport{next, up, down}
}

type transport struct {
	next     http.RoundTripper
	up, down *throttle.Limiter
}

// CloseIdleConnections is what http.Client asks for.
func (t *transport) CloseIdleConnections() {
	if c, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(q *http.Request) (*http.Response, error) {
	ctx := q.Context()
	if t.up != nil && q.Body != nil && q.Body != http.NoBody {
		q = q.Clone(ctx)
		q.Body = &slow{ReadCloser: q.Body, ctx: ctx, l: t.up}
		if again := q.GetBody; again != nil {
			q.GetBody = func() (io.ReadCloser, error) {
				b, err := again()
				return &slow{ReadCloser: b, ctx: ctx, l: t.up}, err
			}
		}
	}
	a, err := t.next.RoundTrip(q)
	if err == nil && t.down != nil {
		a.Body = &slow{ReadCloser: a.Body, ctx: ctx, l: t.down}
	}
	return a, err
}

// piece is what is read at once at most, so that many bodies at a low rate all
// go on, and no engine takes one for dead.
const piece = 8 << 10

// slow is a body at a rate.
type slow struct {
	io.ReadCloser
	ctx context.Context
	l   *throttle.Limiter
}

func (s *slow) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p[:min(len(p), piece)])
	if werr := s.l.Wait(s.ctx, n); werr != nil {
		return n, werr
	}
	return n, err
}
