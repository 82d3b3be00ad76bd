package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/holdfast-backup/holdfast/internal/proto/records"
	"github.com/holdfast-backup/holdfast/internal/proto/trust"
)

// Time limits, as clients of a backup server have them.
const (
	connectLimit = 20 * time.Second
	answerLimit  = 2 * time.Minute // a server delays refusals, and lists what is on slow disks
	keepAlive    = 2 * time.Minute
)

// transport makes calls over HTTP/1.1.
func (r *Repository) transport() *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Transport{
		Protocols:             &protocols,
		DialTLSContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return r.dial(ctx) },
		ResponseHeaderTimeout: answerLimit,
		IdleConnTimeout:       time.Minute,
		MaxIdleConnsPerHost:   4,
		DisableCompression:    true,
	}
}

// dial connects to the server and makes sure that it is the right one.
func (r *Repository) dial(ctx context.Context) (*records.Conn, error) {
	r.mu.Lock()
	fingerprint := r.fingerprint
	r.mu.Unlock()
	conn, err := r.handshake(ctx, trust.Client(r.addr.Host, fingerprint, nil))
	unknown, ok := errors.AsType[*trust.UntrustedError](err)
	if !ok || !unknown.Expected.IsZero() || r.opt.Trust == nil {
		return conn, err
	}
	// One asks, others that meet the same certificate wait for the answer.
	r.mu.Lock()
	if r.fingerprint != unknown.Has {
		if err := r.opt.Trust(ctx, unknown); err != nil {
			r.mu.Unlock()
			return nil, err
		}
		r.fingerprint = unknown.Has
	}
	r.mu.Unlock()
	return r.handshake(ctx, trust.Client(r.addr.Host, unknown.Has, nil))
}

func (r *Repository) handshake(ctx context.Context, conf *tls.Config) (*records.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, connectLimit, fmt.Errorf("no connection after %s", connectLimit))
	defer cancel()
	d := net.Dialer{KeepAlive: keepAlive}
	raw, err := d.DialContext(ctx, "tcp", r.addr.Server())
	if err != nil {
		return nil, cause(ctx, err)
	}
	conn := records.Client(raw, conf)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(cause(ctx, err), ignoreClosed(raw.Close()))
	}
	return conn, nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// cause prefers the reason why ctx ended to what it did to a callee.
func cause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
