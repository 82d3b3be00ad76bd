package mapping

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/kernel/holders"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd/nbdserver"
)

// The control socket carries one line of JSON each way and is closed then.
type (
	request struct {
		Op    string        `json:"op"` // "status" or "stop"
		Force bool          `json:"force,omitempty"`
		Wait  time.Duration `json:"wait,omitempty"`
	}
	answer struct {
		Error    string           `json:"error,omitempty"`
		Busy     bool             `json:"busy,omitempty"`
		Holders  []holders.Holder `json:"holders,omitempty"`
		Ready    bool             `json:"ready"`
		Counters Counters         `json:"counters"`
	}
)

const (
	maxLine      = 64 << 10
	talkTimeout  = 5 * time.Second
	maxStopWait  = time.Minute
	maxListeners = 16 // conversations at once
)

// control answers on the daemon's control socket.
type control struct {
	m   *Mapping
	ln  net.Listener
	ctx context.Context
	end context.CancelFunc
	wg  sync.WaitGroup
	cut func() // gives back what the socket's short name needs
}

func serveControl(m *Mapping) (*control, error) {
	path, cut, err := socketName(m.dir, m.rec.ID+".ctl")
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		cut()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if u, ok := ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // its name may be short for something gone; the files are removed together
	}
	c := &control{m: m, ln: ln, cut: cut}
	c.ctx, c.end = context.WithCancel(context.Background()) // the daemon's life, which close ends
	c.wg.Go(c.accept)
	return c, nil
}

func (c *control) accept() {
	room := make(chan struct{}, maxListeners)
	for {
		nc, err := c.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			select {
			case <-time.After(100 * time.Millisecond): // out of descriptors, for instance
				continue
			case <-c.ctx.Done():
				return
			}
		}
		select {
		case room <- struct{}{}:
		case <-c.ctx.Done():
			_ = nc.Close()
			return
		}
		c.wg.Go(func() {
			defer func() { <-room }()
			defer func() { _ = nc.Close() }()
			c.talk(nc)
		})
	}
}

func (c *control) talk(nc net.Conn) {
	if !trusted(nc) {
		return
	}
	_ = nc.SetDeadline(time.Now().Add(talkTimeout))
	var q request
	if err := readLine(nc, &q); err != nil {
		return
	}
	a := c.answer(q)
	_ = nc.SetDeadline(time.Now().Add(talkTimeout))
	b, err := json.Marshal(a)
	if err != nil {
		return
	}
	_, _ = nc.Write(append(b, '\n'))
}

func (c *control) answer(q request) answer {
	switch q.Op {
	case "status":
		return answer{Ready: true, Counters: c.m.Counters()}
	case "stop":
		ctx, cancel := context.WithTimeout(c.ctx, min(max(q.Wait, time.Second), maxStopWait))
		defer cancel()
		err := c.m.Stop(ctx, q.Force)
		a := answer{Counters: c.m.Counters()}
		if busy, ok := errors.AsType[*BusyError](err); ok {
			a.Busy, a.Holders = true, busy.Holders
		}
		if err != nil {
			a.Error = err.Error()
		}
		return a
	}
	return answer{Error: "unknown request " + q.Op}
}

// close ends all conversations and waits for them.
func (c *control) close() {
	_ = c.ln.Close()
	c.wg.Wait() // bounded: each has deadlines
	c.end()
	c.cut()
}

func readLine(r io.Reader, v any) error {
	line, err := bufio.NewReader(io.LimitReader(r, maxLine)).ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, v)
}

// ask sends one request to the daemon of a record.
func ask(ctx context.Context, dir string, r Record, q request) (answer, error) {
	path, cut, err := socketName(dir, r.ID+".ctl")
	if err != nil {
		return answer{}, err
	}
	defer cut()
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = nc.Close() }()
	defer context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })()
	b, err := json.Marshal(q)
	if err != nil {
		return answer{}, err
	}
	if _, err := nc.Write(append(b, '\n')); err != nil {
		return answer{}, err
	}
	var a answer
	if err := readLine(nc, &a); err != nil {
		return answer{}, fmt.Errorf("no answer: %w", errors.Join(err, context.Cause(ctx)))
	}
	return a, nil
}

// socketName returns a path for a socket in the run directory that is short
// enough for the system.
func socketName(dir, name string) (string, func(), error) {
	path := filepath.Join(dir, name)
	if len(path) <= nbdserver.MaxSocketPath {
		return path, func() {}, nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	short := fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), name)
	if _, err := os.Stat(filepath.Dir(short)); err != nil {
		_ = d.Close()
		return "", nil, fmt.Errorf("%s is too long for a socket: choose a shorter run directory", path)
	}
	return short, func() { _ = d.Close() }, nil
}
