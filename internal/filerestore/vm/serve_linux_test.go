package vm

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// puppet is a machine that does what a test wants.
type puppet struct {
	answer func(ctx context.Context) error
	ping   func(ctx context.Context) error
	done   chan struct{}
}

func (p *puppet) ask(ctx context.Context, _ string, _ []byte, _ io.Writer) error {
	return p.answer(ctx)
}

func (p *puppet) Ping(ctx context.Context) error { return p.ping(ctx) }

func (p *puppet) Console() string       { return "last words" }
func (p *puppet) Done() <-chan struct{} { return p.done }
func (p *puppet) Close() error          { return nil }

// watched supervises a puppet inside of a bubble. ended gives what ended it.
func watched(t *testing.T, p *puppet) (s *supervisor, ended <-chan error) {
	t.Helper()
	if p.ping == nil {
		p.ping = func(context.Context) error { return nil }
	}
	p.done = make(chan struct{})
	s = newSupervisor(context.Background(), "t", Options{})
	stop := s.serve(p, Status{})
	done := make(chan error, 1)
	go func() {
		defer stop()
		done <- s.watch()
	}()
	return s, done
}

func (s *supervisor) ask1(method, op string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, api+op, http.NoBody)
	r.Header.Set("Authorization", s.ticket)
	s.ServeHTTP(w, r)
	return w
}

func ends(ended <-chan error) bool {
	synctest.Wait()
	return len(ended) > 0
}

func TestAnUnusedMachineEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ended := watched(t, &puppet{})
		time.Sleep(9 * time.Minute)
		if ends(ended) {
			t.Fatal("it ended too early")
		}
		s.ask1(http.MethodGet, "status?keep-timeout=1") // looking is no use
		time.Sleep(time.Minute)
		if !ends(ended) {
			t.Fatal("it goes on")
		}
		if err := <-ended; !errors.Is(err, errUnused) {
			t.Error(err)
		}
	})
}

func TestUseKeepsAMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		finish := make(chan struct{})
		s, ended := watched(t, &puppet{answer: func(context.Context) error { <-finish; return nil }})
		for range 3 {
			time.Sleep(9 * time.Minute)
			s.ask1(http.MethodGet, "status")
		}
		called := make(chan struct{})
		go func() {
			defer close(called)
			s.ask1(http.MethodPost, "tree")
		}()
		time.Sleep(24 * time.Hour) // a tree takes as long as it takes
		if ends(ended) {
			t.Fatal("it ended while it was used")
		}
		close(finish)
		<-called
		time.Sleep(10*time.Minute - time.Second)
		if ends(ended) {
			t.Fatal("its time did not begin anew with the end of its use")
		}
		time.Sleep(time.Second)
		if !ends(ended) {
			t.Error("it goes on")
		}
	})
}

func TestAMachineThatGivesNoSignOfLifeIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := false
		s, ended := watched(t, &puppet{
			ping: func(ctx context.Context) error {
				if hangs {
					<-ctx.Done()
				}
				return context.Cause(ctx)
			},
			answer: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		})
		time.Sleep(5 * time.Minute)
		hangs = true
		if ends(ended) {
			t.Fatal("it ended while it answered")
		}
		time.Sleep(s.pace.ping + s.pace.alive)
		if !ends(ended) {
			t.Fatal("it goes on")
		}
		if err := <-ended; err == nil || !strings.Contains(err.Error(), "no sign of life in 1m0s") {
			t.Error(err)
		}
	})
}

func TestTheEndOfAMachineIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &puppet{}
		_, ended := watched(t, p)
		close(p.done)
		if err := <-ended; !strings.Contains(err.Error(), "last words") {
			t.Error(err)
		}
	})
}

func TestCallsWaitForTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSupervisor(context.Background(), "t", Options{})
		answered := make(chan *httptest.ResponseRecorder, 2)
		go func() { answered <- s.ask1(http.MethodPost, "list") }()
		time.Sleep(time.Hour) // a start is no idle time
		if synctest.Wait(); len(answered) > 0 {
			t.Fatal("it was answered before the start")
		}
		if w := s.ask1(http.MethodGet, "status"); w.Code != http.StatusOK {
			t.Errorf("status: %d", w.Code)
		}
		defer s.serve(&puppet{answer: func(context.Context) error { return nil }}, Status{})()
		if w := <-answered; w.Code != http.StatusOK {
			t.Errorf("%d: %s", w.Code, w.Body)
		}
	})
}

func TestWhoWaitsForAStartThatFailsHearsWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSupervisor(context.Background(), "t", Options{})
		answered := make(chan *httptest.ResponseRecorder)
		go func() { answered <- s.ask1(http.MethodGet, "status?wait=1") }()
		synctest.Wait()
		s.end(errors.New("no room"))
		if w := <-answered; w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "no room") {
			t.Errorf("%d: %s", w.Code, w.Body)
		}
	})
}
