package simstore

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/cancel"
	"github.com/holdfast-backup/holdfast/internal/objstore"
)

// Process is an objstore.Store as one process sees it.
type Process struct {
	w    *World
	name string

	mu     sync.Mutex
	seen   map[string]uint64 // how often there was each call
	calls  int
	dead   bool
	die    int // with which call; 0: with none
	killed func()
	stop   int // before which call it pauses; 0: before none
	pause  time.Duration
	until  time.Time // no request leaves and no answer arrives before
}

var _ objstore.Store = (*Process)(nil)

// Calls is how many requests there were.
func (p *Process) Calls() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls
}

// KillAt ends the process with its n-th request from now, before or after that takes
// effect. f is called then, and must not wait.
func (p *Process) KillAt(n int, f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.die, p.killed = p.calls+n, f
}

// Dead reports whether the process was killed.
func (p *Process) Dead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

// PauseAt stops the process for a while with its n-th request from now.
func (p *Process) PauseAt(n int, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stop, p.pause = p.calls+n, d
}

// Pause stops the process: nothing leaves or reaches it for a while.
func (p *Process) Pause(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.until = time.Now().Add(d)
}

// fate is what happens to one call.
type fate struct {
	*rand.Rand
	last bool // the process dies of it
}

// enter counts a call and draws its fate.
func (p *Process) enter(what string) (fate, error) {
	p.mu.Lock()
	if p.dead {
		p.mu.Unlock()
		return fate{}, ErrKilled
	}
	p.calls++
	p.seen[what]++
	f := fate{p.w.draw(p.name, what, p.seen[what]), p.calls == p.die}
	if p.calls == p.stop {
		p.until = time.Now().Add(p.pause)
	}
	killed := p.killed
	p.dead = p.dead || f.last
	p.mu.Unlock()
	if f.last {
		killed()
	}
	return f, nil
}

// travel is the way of a request or an answer.
func (p *Process) travel(ctx context.Context, r *rand.Rand) error {
	if p.w.opt.Latency > 0 {
		if err := cancel.Sleep(ctx, 1+time.Duration(r.Int64N(int64(p.w.opt.Latency)))); err != nil {
			return err
		}
	}
	for {
		p.mu.Lock()
		wait, dead := time.Until(p.until), p.dead
		p.mu.Unlock()
		switch {
		case dead:
			return ErrKilled
		case wait <= 0:
			return context.Cause(ctx)
		}
		if err := cancel.Sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// do is a call, which happens once, twice, later or never. apply is what it does.
func do[T any](ctx context.Context, p *Process, op, key string, apply func(context.Context) (T, error)) (out T, err error) {
	var none T
	f, err := p.enter(describe(op, key))
	if err != nil {
		return none, err
	}
	hit := func(rate float64) bool { return f.Float64() < rate } // each is drawn, so that one rate does not change the others
	lost, answer, late, twice, busy := hit(p.w.opt.LostRequest), hit(p.w.opt.LostAnswer), hit(p.w.opt.Delayed), hit(p.w.opt.Doubled), hit(p.w.opt.Busy)
	if f.last {
		if f.IntN(2) == 0 {
			_, _ = apply(context.WithoutCancel(ctx)) // nobody hears of it
		} else if late {
			p.later(f, func() { _, _ = apply(context.WithoutCancel(ctx)) })
		}
		return none, ErrKilled
	}
	if err := p.travel(ctx, f.Rand); err != nil {
		if f.IntN(2) == 0 {
			p.later(f, func() { _, _ = apply(context.WithoutCancel(ctx)) }) // it had left
		}
		return none, err
	}
	switch {
	case lost:
	case busy:
		err := p.travel(ctx, f.Rand)
		if err == nil {
			err = &objstore.BusyError{Err: fmt.Errorf("%s %s: slow down", op, key)}
		}
		return none, err
	case late:
		p.later(f, func() { _, _ = apply(context.WithoutCancel(ctx)) })
	case twice:
		out, err = apply(ctx)
		if f.IntN(2) == 0 {
			out, err = apply(ctx)
		} else {
			p.later(f, func() { _, _ = apply(context.WithoutCancel(ctx)) })
		}
	default:
		out, err = apply(ctx)
	}
	if terr := p.travel(ctx, f.Rand); terr != nil {
		return none, terr
	}
	if lost || answer || late {
		return none, fmt.Errorf("%s %s: %w", op, key, errLost)
	}
	return out, err
}

// later does something that nobody waits for.
func (p *Process) later(f fate, apply func()) {
	d := time.Duration(1)
	if p.w.opt.Late > 0 {
		d += time.Duration(f.Int64N(int64(p.w.opt.Late)))
	}
	p.w.late.Go(func() {
		time.Sleep(d)
		apply()
	})
}

// Location names the store.
func (p *Process) Location() string { return "memory" }

// Get implements objstore.Store.
func (p *Process) Get(ctx context.Context, key string, off, n int64) (objstore.Object, error) {
	return do(ctx, p, "get", key, func(ctx context.Context) (objstore.Object, error) {
		o, err := p.w.Store.Get(ctx, key, off, n)
		if err != nil {
			return o, err
		}
		return p.cut(o, fmt.Sprintf("%s %d+%d", key, off, n))
	})
}

// cut ends what is read early, now and then.
func (p *Process) cut(o objstore.Object, what string) (objstore.Object, error) {
	if p.w.opt.Cut == 0 {
		return o, nil
	}
	p.mu.Lock()
	p.seen["cut "+what]++
	r := p.w.draw(p.name, "cut "+what, p.seen["cut "+what])
	p.mu.Unlock()
	if r.Float64() >= p.w.opt.Cut || o.Size == 0 {
		return o, nil
	}
	b, err := io.ReadAll(o)
	if err != nil || len(b) == 0 {
		return o, err
	}
	o.ReadCloser = io.NopCloser(io.MultiReader(bytes.NewReader(b[:r.IntN(len(b))]), broken{}))
	return o, nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// Put implements objstore.Store.
func (p *Process) Put(ctx context.Context, key string, body objstore.Body, o objstore.PutOptions) (objstore.Info, error) {
	b := make([]byte, body.Size()) // what arrives late is what was sent
	if _, err := io.ReadFull(io.NewSectionReader(body, 0, body.Size()), b); err != nil {
		return objstore.Info{}, err
	}
	return do(ctx, p, "put", key, func(ctx context.Context) (objstore.Info, error) {
		return p.w.put(ctx, key, bytes.NewReader(b), o)
	})
}

// Stat implements objstore.Store.
func (p *Process) Stat(ctx context.Context, key string) (objstore.Info, error) {
	return do(ctx, p, "stat", key, func(ctx context.Context) (objstore.Info, error) { return p.w.Store.Stat(ctx, key) })
}

// listing is the answer to List.
type listing struct {
	list []objstore.Info
	more bool
}

// List implements objstore.Store.
func (p *Process) List(ctx context.Context, prefix, after string, limit int) ([]objstore.Info, bool, error) {
	l, err := do(ctx, p, "list", prefix+" "+after, func(ctx context.Context) (l listing, err error) {
		l.list, l.more, err = p.w.list(ctx, prefix, after, limit, p.lag(prefix+" "+after))
		return l, err
	})
	return l.list, l.more, err
}

// lag is how old a listing is.
func (p *Process) lag(what string) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.w.draw(p.name, "lag "+what, p.seen[describe("list", what)])
	if r.Float64() >= p.w.opt.Stale {
		return 0
	}
	return time.Duration(r.Int64N(int64(p.w.opt.Lag) + 1))
}

// Delete implements objstore.Store.
func (p *Process) Delete(ctx context.Context, keys []string) error {
	keys = append([]string(nil), keys...)
	_, err := do(ctx, p, "delete", strings.Join(keys, " "), func(ctx context.Context) (struct{}, error) {
		return struct{}{}, p.w.remove(ctx, keys)
	})
	return err
}

// Retain implements objstore.Store.
func (p *Process) Retain(ctx context.Context, key string, r objstore.Retention) error {
	_, err := do(ctx, p, "retain", key, func(ctx context.Context) (struct{}, error) { return struct{}{}, p.w.Store.Retain(ctx, key, r) })
	return err
}
