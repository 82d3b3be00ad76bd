package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/accounts"
	"github.com/holdfast-backup/holdfast/internal/cancel"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
	"github.com/holdfast-backup/holdfast/internal/server/api"
)

// How long a client may take.
const (
	bodyTime  = 30 * time.Second // to send parameters
	dataTime  = 15 * time.Minute // to send data
	drainTime = 20 * time.Second // to send what nobody reads
	writeTime = 2 * time.Minute  // to take a piece of an answer
)

// maxDrain is how much of a body is read that nobody wants, in bytes: that of the
// largest call that has one.
const maxDrain = 20 << 20

// ServeHTTP answers a request and writes a line about it.
func (s *Server) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	start := s.now()
	a := &answer{ResponseWriter: w, control: http.NewResponseController(w)}
	v := &visit{server: s, start: start, answer: a, http: hr, format: api.JSON, peer: host(hr.RemoteAddr)}
	err := v.runSafely()
	if err != nil && !a.begun && !a.taken {
		v.refuse(err)
	}
	s.logRequest(v, err)
	if err != nil && a.begun && !a.failed {
		panic(http.ErrAbortHandler) // half an answer must not look whole
	}
}

// visit is one request on its way.
type visit struct {
	server *Server
	start  time.Time
	answer *answer
	http   *http.Request
	format api.Format
	peer   string
	caller names.AuthID
	name   string // of a session, for the log
}

// runSafely makes an error of a panic: others are served on, and the one who met it
// is told.
func (v *visit) runSafely() (err error) {
	defer func() {
		if p := recover(); p != nil {
			v.server.log.Error("a request panicked", "method", v.http.Method, "path", cutText(v.http.URL.Path, 512), "panic", p, "stack", string(debug.Stack()))
			err = rest.Errorf(http.StatusInternalServerError, "internal error: the server's log says more")
		}
	}()
	return v.run()
}

func host(addr string) string {
	h, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return h
}

// run answers the request, or returns the error to answer with.
func (v *visit) run() error {
	s, hr := v.server, v.http
	if len(hr.RequestURI) > api.MaxTarget {
		return rest.Errorf(http.StatusRequestURITooLong, "URI too long: at most %d bytes", api.MaxTarget)
	}
	parts, err := rest.Path(hr)
	if err != nil {
		return err
	}
	if len(parts) == 0 && (hr.Method == http.MethodGet || hr.Method == http.MethodHead) {
		return v.index()
	}
	if len(parts) < 2 || parts[0] != "api2" {
		return rest.Errorf(http.StatusNotFound, "Path '%.200s' not found.", hr.URL.Path)
	}
	if v.format, err = api.ParseFormat(parts[1]); err != nil {
		v.format = api.JSON
		return err
	}
	call, vars := s.table.Find(hr.Method, parts[2:])
	if call == nil || call.NeedsLogin() {
		if err := v.login(); err != nil {
			return err
		}
	}
	if err := v.waitTurn(); err != nil {
		return err
	}
	if call == nil {
		return rest.Errorf(http.StatusNotFound, "Path '%.200s' not found.", hr.URL.Path)
	}
	policy, err := s.store.Policy()
	if policy == nil {
		return err
	}
	r := &api.Request{HTTP: hr, Call: call, Caller: v.caller, Policy: policy, Peer: v.peer, Header: v.answer.Header()}
	if err := v.read(r, vars); err != nil {
		return err
	}
	v.answer.visit = v
	return call.Run(v.answer, r, v.format)
}

// read reads the parameters. A client has so long to send them.
func (v *visit) read(r *api.Request, vars map[string]string) error {
	if v.http.ContentLength == 0 {
		return r.Read(vars)
	}
	patience := bodyTime
	if r.Call.Do.HasBody() {
		patience = dataTime
	}
	_ = v.answer.control.SetReadDeadline(v.start.Add(patience)) // only tests have connections without
	err := r.Read(vars)
	if !r.Call.Do.HasBody() {
		_ = v.answer.control.SetReadDeadline(time.Time{})
	}
	return err
}

// login finds out who asks.
func (v *visit) login() error {
	h := v.http.Header
	id, err := v.server.gate.Who(v.http.Context(), accounts.Credentials{
		Cookies: h["Cookie"], Authorization: h.Get("Authorization"), CSRF: h.Get("CSRFPreventionToken"),
		Changes: v.http.Method != http.MethodGet && v.http.Method != http.MethodHead, Peer: v.peer,
	})
	if err != nil {
		return v.notLoggedIn(err)
	}
	v.caller = id
	return nil
}

// notLoggedIn tells the log why, and the client only what it has to do.
func (v *visit) notLoggedIn(err error) error {
	r := &api.Request{Header: v.answer.Header()}
	if errors.Is(err, accounts.ErrRefused) {
		return &rest.Error{Status: http.StatusUnauthorized, Text: "authentication failed", Err: errors.Join(refused(r, err), err)}
	}
	return refused(r, err)
}

// waitTurn waits until the one who asks may.
func (v *visit) waitTurn() error {
	who := v.caller.String()
	if v.caller == (names.AuthID{}) {
		who = network(v.http.RemoteAddr).String()
	}
	wait, ok := v.server.rates.take(who, v.server.now())
	if !ok {
		v.answer.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
		return rest.Errorf(http.StatusTooManyRequests, "too many requests: wait a while")
	}
	return pause(v.http.Context(), wait)
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	return cancel.Sleep(ctx, d)
}

// refuse answers with an error, not before its time.
func (v *visit) refuse(err error) {
	status := rest.StatusOf(api.ToWire(err))
	delay := time.Duration(0)
	switch status {
	case http.StatusUnauthorized:
		delay = v.server.opt.Delay.Unauthorized
		v.answer.Header().Set("Set-Cookie", cookie(""))
	case http.StatusForbidden:
		delay = v.server.opt.Delay.Forbidden
	}
	v.drain()
	if pause(v.http.Context(), delay-v.server.now().Sub(v.start)) != nil {
		return // it is gone
	}
	v.answer.failed = true
	v.format.Fail(v.answer, err)
}

// drain reads what the client still sends, within limits, unless it waits for leave
// to send.
func (v *visit) drain() {
	if v.http.Body == nil || v.http.ContentLength == 0 || v.http.Header.Get("Expect") != "" {
		return
	}
	_ = v.answer.control.SetReadDeadline(v.server.now().Add(drainTime))
	n, err := io.CopyN(io.Discard, v.http.Body, maxDrain)
	if n == maxDrain || err != nil && !errors.Is(err, io.EOF) {
		v.answer.Header().Set("Connection", "close")
	}
}

// index is what people see who open the server's address.
func (v *visit) index() error {
	v.answer.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, err := fmt.Fprintf(v.answer, "Holdfast backup server. Its calls are described at /api2/json/openapi.json\n")
	return err
}

func (s *Server) logRequest(v *visit, err error) {
	s.figures.Request(v.answer.status)
	level := slog.LevelInfo
	took := s.now().Sub(v.start)
	attrs := []slog.Attr{
		slog.String("method", v.http.Method), slog.String("path", cutText(v.http.URL.Path, 512)), slog.Int("status", v.answer.status),
		slog.String("user", userText(v.caller)), slog.String("peer", v.peer), slog.Int64("bytes", v.answer.bytes), slog.Int64("ms", took.Milliseconds()),
	}
	message := "request"
	if v.name != "" {
		message = "session"
		attrs = append(attrs, slog.String("session", v.name))
	}
	if err != nil {
		// What the client is not told is told here.
		if e, ok := errors.AsType[*rest.Error](err); ok && e.Err != nil && !strings.Contains(e.Text, e.Err.Error()) {
			err = fmt.Errorf("%s: %w", e.Text, e.Err)
		}
		attrs = append(attrs, slog.String("error", cutText(err.Error(), 2048)))
		level = slog.LevelWarn
	}
	s.log.LogAttrs(context.Background(), level, message, attrs...)
}

func userText(id names.AuthID) string {
	if id == (names.AuthID{}) {
		return "-"
	}
	return id.String()
}

func cutText(s string, most int) string {
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

// answer notes what is written, and gives the client time for each piece.
type answer struct {
	http.ResponseWriter
	control *http.ResponseController
	visit   *visit
	status  int
	bytes   int64
	begun   bool // something was written
	failed  bool // it is an error
	taken   bool // the connection was taken over
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	a.begun = true
	if a.status == 0 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	a.begun = true
	_ = a.control.SetWriteDeadline(time.Now().Add(writeTime)) // only tests have connections without
	n, err := a.ResponseWriter.Write(p)
	a.bytes += int64(n)
	return n, err
}

// Unwrap lets a controller find what is beneath.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// needSession refuses those who have as many sessions as they may, or all when the
// server is about to stop. leave ends the one that was let in.
func (s *Server) needSession(id names.AuthID) (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return nil, rest.Errorf(http.StatusServiceUnavailable, "the server is about to stop")
	}
	if s.sessions[id] >= s.opt.Limits.Sessions {
		return nil, rest.Errorf(http.StatusTooManyRequests, "%s has %d sessions already", id, s.sessions[id])
	}
	s.sessions[id]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.sessions[id]--; s.sessions[id] == 0 {
			delete(s.sessions, id)
		}
	}, nil
}
