package server

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/server/api"
)

func TestARequestThatPanicsEndsNoOther(t *testing.T) {
	var log bytes.Buffer
	s, err := New(Options{Config: confdir.New(t.TempDir()), Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(t.Context())
	s.table = api.NewTable([]api.Call{
		{Method: "GET", Path: "/early", Guard: api.Everybody(), Do: api.Data(func(context.Context, *api.Request) (int, error) { panic("no") })},
		{Method: "GET", Path: "/late", Guard: api.Everybody(), Do: api.Stream("text/plain", func(w http.ResponseWriter, _ *api.Request) error {
			_, _ = w.Write([]byte("half an answer"))
			panic("no")
		})},
	})
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/api2/json/early", nil))
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "panic_test.go") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if !strings.Contains(log.String(), "panic_test.go") {
		t.Errorf("the log does not say where: %s", log.String())
	}
	func() {
		defer func() {
			if recover() != http.ErrAbortHandler {
				t.Error("half an answer is not broken off")
			}
		}()
		s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), "GET", "/api2/json/late", nil))
	}()
}
