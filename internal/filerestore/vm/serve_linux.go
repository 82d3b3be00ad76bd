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
	Error   string  `json:"error,omitempty"` // it does not answer
}

// guestMachine is what a supervisor needs of its machine.
type guestMachine interface {
	ask(ctx context.Context, op string, call []byte, answer io.Writer) error
	Ping(ctx context.Context) error
	Console() string
	Done() <-chan struct{}
	Close() error
}

// supervisor serves the calls of one machine.
type supervisor struct {
	ticket  string
	vm      guestMachine
	about   Status // what does not change
	started time.Time
	idle    time.Duration
	pace    pace

	ended  context.Context //nolint:containedctx // calls that are under way end with it, for its reason
	end    context.CancelCauseFunc
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
	if o.Idle <= 0 {
		o.Idle = 10 * time.Minute
	}
	reg, err := openRegistry(o.Dir)
	if err != nil {
		return err
	}
	began := time.Now()
	ln, err := nbdserver.ListenUnix(reg.socket(name))
	if err != nil {
		return err
	}
	defer ln.Close()
	g, err := start(ctx, disks, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.end()) }()
	self, err := newMachine(reg.socket(name))
	if err != nil {
		return err
	}
	if err := reg.change(ctx, func(all map[string]machine) { all[name] = self }); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reg.drop(context.WithoutCancel(ctx), name, self)) }()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	s := &supervisor{
		ticket: self.Ticket, vm: g, started: began, idle: o.Idle, pace: o.pace(),
		about: Status{
			Name: name, PID: os.Getpid(), Boot: g.boot.Seconds(), Accel: string(g.Accel), Kernel: g.Hello.Kernel,
			Memory: g.memoryMB, Disks: len(disks),
		},
		ended: ctx, end: end, trees: make(chan struct{}, maxTrees),
	}
	return s.serve(ln, o.Ready)
}

// windUp starts the clock of a machine that nobody uses.
func (s *supervisor) windUp() (stop func() bool) {
	s.timer = time.AfterFunc(s.idle, s.unused)
	s.touch(0)
	return s.timer.Stop
}

func (s *supervisor) serve(ln net.Listener, ready func() error) error {
	defer s.windUp()()
	server := &http.Server{Handler: s, ReadHeaderTimeout: readHeader, ConnContext: func(ctx context.Context, c net.Conn) context.Context {
		if !ours(c) {
			_ = c.Close()
		}
		return ctx
	}}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	var err error
	if ready != nil {
		err = ready()
	}
	if err == nil {
		err = s.watch()
	}
	s.end(err)
	_ = s.vm.Close() // what is asked of it ends now
	wait, cancel := context.WithTimeout(context.WithoutCancel(s.ended), partingWait)
	defer cancel()
	_ = server.Shutdown(wait) // callers hear why
	_ = server.Close()
	<-served
	if errors.Is(err, errStopped) || errors.Is(err, errUnused) {
		return nil
	}
	return err
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
	s.timer.Reset(s.idle)
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
	if call == "GET "+api+"status" {
		s.status(w, r)
		return
	}
	s.touch(1)
	defer s.touch(-1)
	switch call {
	case "GET " + api + "console":
		_, _ = io.WriteString(w, s.vm.Console())
	case "POST " + api + "stop":
		s.end(errStopped)
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
	if r.URL.Query().Get("keep-timeout") != "1" {
		s.touch(0)
	}
	s.mu.Lock()
	left := time.Until(s.due)
	if s.active > 0 {
		left = s.idle
	}
	s.mu.Unlock()
	out := s.about
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
