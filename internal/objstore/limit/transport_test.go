package limit_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/objstore/limit"
	"github.com/holdfast-backup/holdfast/internal/throttle"
)

func body(s string) *strings.Reader { return strings.NewReader(s) }

// echo answers with what it was sent.
type echo struct{ idle int }

func (e *echo) RoundTrip(q *http.Request) (*http.Response, error) {
	var b bytes.Buffer
	if _, err := io.CopyBuffer(struct{ io.Writer }{&b}, q.Body, make([]byte, 32<<10)); err != nil { // as net/http does
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(&b)}, nil
}

func (e *echo) CloseIdleConnections() { e.idle++ }

func TestBodiesPassAtTheirRates(t *testing.T) {
	const rate, size = 1 << 20, 10 << 20
	for _, tc := range []struct {
		name     string
		up, down int64
		want     time.Duration
	}{
		{"no limit", 0, 0, 0},
		{"up", rate, 0, 10 * time.Second},
		{"down", 0, rate, 10 * time.Second},
		{"both", rate, 2 * rate, 15 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := limit.Transport(&echo{}, throttle.New(tc.up), throttle.New(tc.down))
				q, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://x/", bytes.NewReader(make([]byte, size)))
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				a, err := tr.RoundTrip(q)
				if err != nil {
					t.Fatal(err)
				}
				n, err := io.Copy(io.Discard, a.Body)
				if err != nil || n != size {
					t.Fatalf("%d bytes, %v", n, err)
				}
				if d := time.Since(start); d < tc.want*9/10 || d > tc.want*11/10 {
					t.Errorf("it took %v, want %v", d, tc.want)
				}
			})
		})
	}
}

func TestSeveralBodiesShareARateAndAllGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := limit.Transport(&echo{}, throttle.New(64<<10), nil)
		done := make(chan time.Duration, 16)
		start := time.Now()
		for range 16 {
			go func() {
				q, _ := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://x/", bytes.NewReader(make([]byte, 128<<10)))
				a, err := tr.RoundTrip(q)
				if err == nil {
					_ = a.Body.Close()
				}
				done <- time.Since(start)
			}()
		}
		first, last := time.Hour, time.Duration(0)
		for range 16 {
			d := <-done
			first, last = min(first, d), max(last, d)
		}
		if first < 12*time.Second || last < 28*time.Second || last > 34*time.Second {
			t.Errorf("the first was done after %v, the last after %v: they did not share", first, last)
		}
	})
}

func TestALimitedTransportStillClosesIdleConnections(t *testing.T) {
	e := &echo{}
	tr := limit.Transport(e, throttle.New(1), nil)
	(&http.Client{Transport: tr}).CloseIdleConnections()
	if e.idle != 1 {
		t.Error("connections stay open")
	}
}
