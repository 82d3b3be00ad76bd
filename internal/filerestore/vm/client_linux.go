package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// Client makes calls to a machine.
type Client struct {
	name string
	m    machine
	http *http.Client
}

func newClient(name string, m machine) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", m.Socket)
	}
	return &Client{name: name, m: m, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableCompression: true}}}
}

// answerWait is how long a supervisor may take to say how it is: it does not ask the
// guest for that.
const answerWait = 10 * time.Second

// Ensure returns a client of the machine with a name. If there is none that answers,
// start is called and is to have its supervisor running when it returns. All who want the
// same machine wait for its start; it goes on when ctx ends before. started says that this
// call began it.
func Ensure(ctx context.Context, dir, name string, start func(context.Context) error) (c *Client, started bool, err error) {
	reg, err := registryAt(dir)
	if err != nil {
		return nil, false, err
	}
	if c, started, err = ensure(ctx, reg, name, start); err != nil {
		return nil, started, err
	}
	_, err = c.status(ctx, "status?wait=1")
	return c, started, err
}

// ensure returns a client of a machine that may still be on its way.
func ensure(ctx context.Context, reg *registry, name string, start func(context.Context) error) (c *Client, started bool, err error) {
	unlock, err := reg.lock(ctx, short(name)+".boot")
	if err != nil {
		return nil, false, err
	}
	defer unlock()
	m, ok, err := reg.find(ctx, name)
	if err != nil {
		return nil, false, err
	}
	if ok {
		c := newClient(name, m)
		if _, err := c.Status(ctx, true); err == nil || ctx.Err() != nil {
			return c, false, ctx.Err()
		}
		if err := errors.Join(m.kill(), reg.drop(ctx, name, m)); err != nil {
			return nil, false, fmt.Errorf("a restore machine that does not answer: %w", err)
		}
	}
	if err := start(ctx); err != nil {
		return nil, false, err
	}
	m, ok, err = reg.find(ctx, name)
	if err == nil && !ok {
		err = errors.New("the restore machine ended as soon as it could be found")
	}
	return newClient(name, m), true, err
}

func registryAt(dir string) (*registry, error) {
	if dir == "" {
		var err error
		if dir, err = RunDir(); err != nil {
			return nil, err
		}
	}
	return openRegistry(dir)
}

// List says how all machines are.
func List(ctx context.Context, dir string) ([]Status, error) {
	reg, err := registryAt(dir)
	if err != nil {
		return nil, err
	}
	var all map[string]machine
	if err := reg.change(ctx, func(m map[string]machine) { all = m }); err != nil {
		return nil, err
	}
	list := []Status{}
	for name, m := range all {
		st, err := newClient(name, m).Status(ctx, false)
		if err != nil {
			st = Status{Name: name, PID: m.PID, Error: err.Error()}
		}
		list = append(list, st)
	}
	return list, nil
}

// Names are the machines that run, for completion.
func Names(ctx context.Context, dir string) (names []string, err error) {
	reg, err := registryAt(dir)
	if err != nil {
		return nil, err
	}
	err = reg.change(ctx, func(all map[string]machine) {
		for name := range all {
			names = append(names, name)
		}
	})
	return names, err
}

// Stop ends a machine, and kills the one that does not end. ok is false if there is none
// of that name.
func Stop(ctx context.Context, dir, name string) (ok bool, err error) {
	reg, err := registryAt(dir)
	if err != nil {
		return false, err
	}
	m, ok, err := reg.find(ctx, name)
	if err != nil || !ok {
		return false, err
	}
	wait, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	body, err := newClient(name, m).call(wait, http.MethodPost, "stop", nil)
	if err == nil {
		_ = body.Close()
		for m.alive() && wait.Err() == nil {
			time.Sleep(lockPoll)
		}
	}
	if m.alive() {
		err = m.kill()
	} else {
		err = nil
	}
	return true, errors.Join(err, reg.drop(ctx, name, m))
}

// Name is the machine's.
func (c *Client) Name() string { return c.name }

// Status asks how the machine is; used counts it as use.
func (c *Client) Status(ctx context.Context, used bool) (Status, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, answerWait, errors.New("it does not answer"))
	defer cancel()
	call := "status"
	if !used {
		call += "?keep-timeout=1"
	}
	return c.status(ctx, call)
}

func (c *Client) status(ctx context.Context, call string) (Status, error) {
	body, err := c.call(ctx, http.MethodGet, call, nil)
	if err != nil {
		return Status{}, err
	}
	defer body.Close()
	var out struct {
		Data Status `json:"data"`
	}
	if err := json.NewDecoder(body).Decode(&out); err != nil {
		return Status{}, fmt.Errorf("restore machine: %w", err)
	}
	return out.Data, nil
}

// call makes a call. The body ends with an error when the answer is not whole.
func (c *Client) call(ctx context.Context, method, op string, send any) (io.ReadCloser, error) {
	var in io.Reader
	if send != nil {
		b, err := json.Marshal(send)
		if err != nil {
			return nil, err
		}
		in = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://machine"+api+op, in)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", c.m.Ticket)
	resp, err := c.http.Do(r)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("restore machine: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxStderr))
		return nil, fmt.Errorf("restore machine: %s", strings.TrimSpace(string(text)))
	}
	return &answer{resp, ctx}, nil
}

// answer is a body whose end tells how it came about.
type answer struct {
	resp *http.Response
	ctx  context.Context //nolint:containedctx // that of the call, for the reason of its end
}

func (a *answer) Read(p []byte) (int, error) {
	n, err := a.resp.Body.Read(p)
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		if why := a.resp.Trailer.Get(trailer); why != "" {
			err = errors.New(why)
		}
	case a.ctx.Err() != nil:
		err = context.Cause(a.ctx)
	default:
		err = fmt.Errorf("the restore machine ended before its answer: %w", err)
	}
	return n, err
}

func (a *answer) Close() error { return a.resp.Body.Close() }
