package provider

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
)

// Version is that of the wire form.
const Version = 1

// maxLine is the longest line in bytes: dirty regions of a large disk come in
// one.
const maxLine = 64 << 20

type greeting struct {
	Version int      `json:"holdfast-provider"`
	Program string   `json:"version"`
	Calls   []string `json:"calls"`
}

type request struct {
	ID   json.RawMessage `json:"id"`
	Call string          `json:"call"`
	Args json.RawMessage `json:"args"`
}

type wireError struct {
	Kind    string `json:"kind"`
	Message string `json:"message"`
}

type answer struct {
	ID     json.RawMessage `json:"id,omitempty"`
	Log    *logFrame       `json:"log,omitempty"`
	Error  *wireError      `json:"error,omitempty"`
	Result any             `json:"result,omitempty"`
}

// connection is one caller.
type connection struct {
	service *Service
	mu      sync.Mutex // of out and running
	out     io.Writer
	broken  error
	running map[string]context.CancelCauseFunc // by id
}

// Serve answers the calls that come from in until it ends or ctx does; then it
// aborts those that are under way and waits for them. program is the version for
// people. A read of in that hangs is left alone when ctx ends.
func (s *Service) Serve(ctx context.Context, program string, in io.Reader, out io.Writer) error {
	c := &connection{service: s, out: out, running: map[string]context.CancelCauseFunc{}}
	c.send(greeting{Version: Version, Program: program, Calls: Calls()})
	ctx, cancel := context.WithCancelCause(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel(ErrAborted)
	lines, ended := readLines(ctx, in)
	for {
		select {
		case line := <-lines:
			c.line(ctx, &all, line)
		case err := <-ended:
			c.mu.Lock()
			defer c.mu.Unlock()
			return errors.Join(err, c.broken)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// readLines reads lines until in ends or nobody takes them any more.
func readLines(ctx context.Context, in io.Reader) (<-chan []byte, <-chan error) {
	lines, ended := make(chan []byte), make(chan error, 1)
	go func() {
		scan := bufio.NewScanner(in)
		scan.Buffer(make([]byte, 64<<10), maxLine)
		for scan.Scan() {
			select {
			case lines <- bytes.Clone(scan.Bytes()):
			case <-ctx.Done():
				return
			}
		}
		err := scan.Err()
		if errors.Is(err, bufio.ErrTooLong) {
			err = usagef("a line of more than %d bytes", maxLine)
		}
		ended <- err
	}()
	return lines, ended
}

// line begins what a line asks for.
func (c *connection) line(ctx context.Context, all *sync.WaitGroup, line []byte) {
	line = bytes.TrimSpace(line)
	if len(line) == 0 {
		return
	}
	var r request
	if err := strictly(line, &r); err != nil {
		c.fail(nil, err)
		return
	}
	if r.Call == "cancel" {
		c.cancel(r)
		return
	}
	call, done, err := c.begin(ctx, r)
	if err != nil {
		c.fail(r.ID, err)
		return
	}
	all.Go(func() { c.answer(call, r, done) })
}

// begin notes a call, so that it can be cancelled.
func (c *connection) begin(ctx context.Context, r request) (_ context.Context, done func(), err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	key := string(r.ID)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, twice := c.running[key]; twice {
		cancel(nil)
		return nil, nil, usagef("the id %s is that of a call under way", key)
	}
	c.running[key] = cancel
	return ctx, func() {
		c.mu.Lock()
		delete(c.running, key)
		c.mu.Unlock()
		cancel(nil)
	}, nil
}

func (c *connection) cancel(r request) {
	var args struct {
		ID json.RawMessage `json:"id"`
	}
	if err := strictly(r.Args, &args); err != nil {
		c.fail(r.ID, err)
		return
	}
	c.mu.Lock()
	cancel := c.running[string(args.ID)]
	c.mu.Unlock()
	if cancel != nil {
		cancel(ErrAborted)
	}
	c.send(answer{ID: r.ID, Result: struct{}{}})
}

// answer does a call and sends what it gives. It is over before that: who has the
// answer may use the id anew.
func (c *connection) answer(ctx context.Context, r request, done func()) {
	log := func(level Level, text string) {
		c.send(answer{ID: r.ID, Log: &logFrame{level, text}})
	}
	result, err := func() (any, error) {
		defer done()
		return c.service.Call(ctx, log, r.Call, r.Args)
	}()
	if err != nil {
		c.fail(r.ID, err)
		return
	}
	c.send(answer{ID: r.ID, Result: result})
}

func (c *connection) fail(id json.RawMessage, err error) {
	c.send(answer{ID: id, Error: &wireError{kindOf(err), err.Error()}})
}

// send writes one line. Once that failed nothing is written any more.
func (c *connection) send(v any) {
	b, err := json.Marshal(v)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return
	}
	if err == nil {
		_, err = c.out.Write(append(b, '\n'))
	}
	c.broken = err
}

// Call does one call by name: what Serve does with a line.
func (s *Service) Call(ctx context.Context, log Log, name string, args json.RawMessage) (any, error) {
	for _, c := range calls {
		if c.name == name {
			result, err := c.do(s, ctx, log, args)
			if result == nil {
				result = struct{}{}
			}
			return result, err
		}
	}
	return nil, usagef("there is no call %.40q; known are %s", name, strings.Join(Calls(), ", "))
}

// Calls lists the names of all calls.
func Calls() []string {
	list := make([]string, 0, len(calls))
	for _, c := range calls {
		list = append(list, c.name)
	}
	return list
}

// strictly decodes one JSON value and refuses keys that are not known: they may
// be misspelled wishes.
func strictly(b []byte, v any) error {
	if len(b) == 0 {
		b = []byte("{}")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return usagef("%v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return usagef("something is behind the JSON")
	}
	return nil
}

// ServeWalk is Serve for the process that walks a container: in is one line, a
// request for backup_container, and then stays open until the answer has come;
// when it ends before, the walk is aborted.
func ServeWalk(ctx context.Context, intro *os.File, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	lines, ended := readLines(ctx, in)
	c := &connection{out: out}
	var r request
	select {
	case line := <-lines:
		if err := strictly(line, &r); err != nil {
			return err
		}
	case err := <-ended:
		return errors.Join(usagef("there is no call"), err)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-lines:
		case <-ended:
		case <-ctx.Done():
		}
		cancel(ErrAborted)
	}()
	defer func() { cancel(nil); <-watched }()
	call, err := ParseContainerCall(r.Args)
	if err == nil {
		err = RunWalker(ctx, intro, call, func(level Level, text string) {
			c.send(answer{ID: r.ID, Log: &logFrame{level, text}})
		})
	}
	if err != nil {
		c.fail(r.ID, err)
	} else {
		c.send(answer{ID: r.ID, Result: struct{}{}})
	}
	return c.broken
}
