package qemu

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/proto/qmp"
)

// Guest is a running QEMU. It implements [guest.Backend]. It holds the
// monitor's only connection until Close, so that no two runs meet.
type Guest struct {
	opts Options
	qmp  *qmp.Client
	log  *slog.Logger

	mu   sync.Mutex // held while a point is open
	open bool
}

var _ guest.Backend = (*Guest)(nil)

// Open connects to a guest's monitor.
func Open(ctx context.Context, opts Options) (*Guest, error) {
	if opts.FreezeWait == 0 {
		opts.FreezeWait = time.Minute
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	c, err := qmp.Dial(ctx, opts.QMP)
	if err != nil {
		return nil, err
	}
	return &Guest{opts: opts, qmp: c, log: opts.Log}, nil
}

// Close gives the monitor back.
func (g *Guest) Close() error { return g.qmp.Close() }

// run runs a command whose answer does not matter.
func (g *Guest) run(ctx context.Context, name string, args any) error {
	return g.qmp.Run(ctx, name, args, nil)
}

// obj is a JSON object.
type obj = map[string]any

// Status is what QEMU is doing: "running", "paused", ...
func (g *Guest) Status(ctx context.Context) (string, error) {
	var st struct{ Status string }
	err := g.qmp.Run(ctx, "query-status", nil, &st)
	return st.Status, err
}

const running = "running"

// Begin takes a point, see the package comment.
func (g *Guest) Begin(ctx context.Context, req guest.Request) (_ guest.Point, err error) {
	if err := g.take(); err != nil {
		return nil, err
	}
	p := &point{g: g, req: req}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Release(context.WithoutCancel(ctx), false))
		}
	}()
	if _, err := g.sweep(ctx); err != nil {
		return nil, fmt.Errorf("remove what an earlier run left in QEMU: %w", err)
	}
	if err := p.prepare(ctx); err != nil {
		return nil, err
	}
	if err := p.hold(ctx); err != nil {
		return nil, err
	}
	if err := p.export(ctx); err != nil {
		return nil, err
	}
	return p, nil
}

func (g *Guest) take() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open {
		return errors.New("internal error: a point of this guest is open already")
	}
	g.open = true
	return nil
}

func (g *Guest) give() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = false
}
