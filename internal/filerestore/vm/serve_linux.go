package vm

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/proto/nbd/nbdserver"
)

const (
	api        = "/api2/json/"
	trailer    = "Holdfast-Error"
	maxTrees   = 8
	maxCall    = 8 << 20
	readHeader = 10 * time.Second
	// partingWait is how long callers of a machine that ends may take to hear of it.
	partingWait = 2 * time.Second
)

// Status is what a supervisor says of its machine.
type Status struct {
	Name    string  `json:"name"`
	PID     int     `json:"pid"`
	Uptime  float64 `json:"uptime"`  // seconds since the machine was started
	Timeout float64 `json:"timeout"` // seconds until it ends if nobody uses it
	Boot    float64 `json:"boot"`    // seconds that it took to answer
	Accel   string  `json:"accel"`   // kvm or tcg
	Kernel  string  `json:"kernel"`
	Memory  int     `json:"memory"` // MiB
	Disks   int     `json:"disks"`
	// Starting: what is not known before it has started is zero.
	Starting bool   `json:"starting,omitempty"`
	Error    string `json:"error,omitempty"` // it does not answer
}

// guestMachine is what a supervisor needs of its machine.
type guestMachine interface {
	ask(ctx context.Context, op string, call []byte, answer io.Writer) error
	Ping(ctx context.Context) error
	Console() string
	Done() <-chan struct{}
	Close() error
}

// supervisor serves the calls of one machine, from before it has started.
type supervisor struct {
	ticket  string
	about   Status // what is known before it starts; all of it then
	started time.Time
	idle    time.Duration
	pace    pace

	up    chan struct{} // closed when vm is there
	vm    guestMachine
	ended context.Context //nolint:containedctx // calls that are under way end with it, for its reason
	end   context.CancelCauseFunc

	trees  chan struct{} // a token for each that is fetched
	mu     sync.Mutex
	active int
	timer  *time.Timer
	due    time.Time
}

// errStopped and errUnused end a supervisor as it is meant to.
var (
	errStopped = errors.New("it was stopped")
	errUnused  = errors.New("nobody used it")
)

// Serve starts the machine of a snapshot and serves it until it is stopped, unused
// for too long, dead, or ctx ends. Its disks are read until it returns.
func Serve(ctx context.Context, name string, disks []Disk, o Options) (err error) {
	if o.Dir == "" {
		if o.Dir, err = RunDir(); err != nil {
			return err
		}
	}
	reg, err := openRegistry(o.Dir)
	if err != nil {
		return err
	}
	ln, err := nbdserver.ListenUnix(reg.socket(name))
	if err != nil {
		return err
	}
	defer ln.Close()
	self, err := newMachine(reg.socket(name))
	if err != nil {
		return err
	}
	if err := reg.change(ctx, func(all map[string]machine) { all[name] = self }); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reg.drop(context.WithoutCancel(ctx), name, self)) }()
	s := newSupervisor(ctx, self.Ticket, o)
	s.about = Status{Name: name, PID: os.Getpid(), Disks: len(disks), Starting: true}
	defer s.answer(ln)()
	if o.Ready != nil {
		if err := o.Ready(); err != nil {
			return err
		}
	}
	err = s.run(disks, o)
	s.end(err)
	if errors.Is(err, errStopped) || errors.Is(err, errUnused) {
		return nil
	}
	return err
}

func newSupervisor(ctx context.Context, ticket string, o Options) *supervisor {
	s := &supervisor{ticket: ticket, started: time.Now(), idle: o.Idle, pace: o.pace(), up: make(chan struct{}), trees: make(chan struct{}, maxTrees)}
	if s.idle <= 0 {
		s.idle = 10 * time.Minute
	}
	s.ended, s.end = context.WithCancelCause(ctx)
	return s
}

// run has the machine from its start to its end.
func (s *supervisor) run(disks []Disk, o Options) (err error) {
	g, err := start(s.ended, disks, o)
	if s.ended.Err() != nil { // stopped before
		return errors.Join(context.Cause(s.ended), g.end())
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.end()) }()
	about := s.about
	about.Boot, about.Accel, about.Kernel, about.Memory, about.Starting = g.boot.Seconds(), string(g.Accel), g.Hello.Kernel, g.memoryMB, false
	defer s.serve(g, about)()
	err = s.watch()
	s.end(err) // callers hear of this, before what they ask for breaks
	return err
}

// serve lets the machine be used.
func (s *supervisor) serve(vm guestMachine, about Status) (stop func() bool) {
	s.mu.Lock()
	s.vm, s.about = vm, about
	s.timer = time.AfterFunc(s.idle, s.unused)
	s.mu.Unlock()
	s.touch(0)
	close(s.up)
	return s.timer.Stop
}

// answer serves calls until what it returns is called: callers then have some time to
// hear of the end.
func (s *supervisor) answer(ln net.Listener) (shut func()) {
	server := &http.Server{Handler: s, ReadHeaderTimeout: readHeader, ConnContext: func(ctx context.Context, c net.Conn) context.Context {
		if !ours(c) {
			_ = c.Close()
		}
		return ctx
	}}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	return func() {
		s.end(nil)
		wait, cancel := context.WithTimeout(context.WithoutCancel(s.ended), partingWait)
		defer cancel()
		_ = server.Shutdown(wait)
		_ = server.Close()
		<-served
	}
}

// await waits until the machine can be asked.
func (s *supervisor) await(ctx context.Context) error {
	select {
	case <-s.up:
		return nil
	case <-s.ended.Done():
		return fmt.Errorf("it did not start: %w", context.Cause(s.ended))
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// watch waits for the end: of the machine, or because somebody wants it.
func (s *supervisor) watch() error {
	tick := time.NewTicker(s.pace.ping)
	defer tick.Stop()
	for {
		select {
		case <-s.ended.Done():
			return context.Cause(s.ended)
		case <-s.vm.Done():
			return fmt.Errorf("the restore machine ended by itself; its console ends with:\n%s", last(s.vm.Console()))
		case <-tick.C:
			alive, cancel := context.WithTimeoutCause(s.ended, s.pace.alive, fmt.Errorf("no sign of life in %v", s.pace.alive))
			err := s.vm.Ping(alive)
			hangs := alive.Err() != nil
			cancel()
			if err != nil && hangs && s.ended.Err() == nil {
				return fmt.Errorf("the restore machine hangs: %w", err)
			} // else it has ended, or is to
		}
	}
}

// last is the end of a console for an error.
func last(s string) string { return s[max(0, len(s)-2000):] }

func (s *supervisor) unused() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active == 0 && !time.Now().Before(s.due) {
		s.end(errUnused)
	}
}

// touch counts the calls that are under way; none ends the machine.
func (s *supervisor) touch(more int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active += more
	s.due = time.Now().Add(s.idle)
	if s.timer != nil { // it has started
		s.timer.Reset(s.idle)
	}
}

// ours reports whether the peer is this user or root.
func ours(nc net.Conn) bool {
	u, ok := nc.(*net.UnixConn)
	if !ok {
		return false
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return false
	}
	var cred *unix.Ucred
	if e := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); e != nil || err != nil {
		return false
	}
	return cred.Uid == 0 || int(cred.Uid) == os.Geteuid()
}

// ServeHTTP answers a call.
func (s *supervisor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte(s.ticket)) != 1 {
		http.Error(w, "this is not the ticket of the restore machine", http.StatusUnauthorized)
		return
	}
	call := r.Method + " " + r.URL.Path
	switch call {
	case "GET " + api + "status":
		s.status(w, r)
		return
	case "POST " + api + "stop":
		s.end(errStopped)
		return
	}
	s.touch(1)
	defer s.touch(-1)
	if err := s.await(r.Context()); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	switch call {
	case "GET " + api + "console":
		_, _ = io.WriteString(w, s.vm.Console())
	case "POST " + api + "tree":
		select {
		case s.trees <- struct{}{}:
			defer func() { <-s.trees }()
			s.ask(w, r, "tree")
		default:
			http.Error(w, fmt.Sprintf("the restore machine sends %d trees already: try again later", maxTrees), http.StatusServiceUnavailable)
		}
	case "POST " + api + "list", "POST " + api + "locked", "POST " + api + "header", "POST " + api + "unlock":
		s.ask(w, r, r.URL.Path[len(api):])
	default:
		http.NotFound(w, r)
	}
}

func (s *supervisor) status(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("wait") == "1" {
		if err := s.await(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
	}
	if r.URL.Query().Get("keep-timeout") != "1" {
		s.touch(0)
	}
	s.mu.Lock()
	left := time.Until(s.due)
	if s.active > 0 || s.timer == nil {
		left = s.idle
	}
	out := s.about
	s.mu.Unlock()
	out.Uptime, out.Timeout = time.Since(s.started).Seconds(), left.Seconds()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]Status{"data": out})
}

// ask passes a call to the guest, and its answer on as it comes.
func (s *supervisor) ask(w http.ResponseWriter, r *http.Request, op string) {
	call, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCall))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Trailer", trailer)
	w.Header().Set("Content-Type", "application/octet-stream")
	err = s.vm.ask(r.Context(), op, call, flushed{w, http.NewResponseController(w)})
	if err != nil && s.ended.Err() != nil { // it says so in a longer way
		err = fmt.Errorf("the restore machine is no more: %w", context.Cause(s.ended))
	}
	if err != nil {
		w.Header().Set(trailer, line(err))
	}
}

// flushed passes on what is written at once: the guest sends whole buffers.
type flushed struct {
	w io.Writer
	c *http.ResponseController
}

func (f flushed) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err == nil {
		err = f.c.Flush()
	}
	return n, err
}

// line is an error that fits into a header.
func line(err error) string {
	b := []byte(err.Error())
	b = b[:min(len(b), 3000)]
	for i, c := range b {
		if c < ' ' || c == 0x7f {
			b[i] = ' '
		}
	}
	return string(b)
}
