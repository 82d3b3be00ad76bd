package s3_test

import (
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/objtest"
	"github.com/holdfast-backup/holdfast/internal/objstore/s3"
)

// fake is an engine in this process. It takes every signature.
func fake(t *testing.T, wrap func(http.Handler) http.Handler) s3.Address {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("bucket"); err != nil {
		t.Fatal(err)
	}
	h := http.Handler(gofakes3.New(backend).Server())
	if wrap != nil {
		h = wrap(h)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	a, err := s3.ParseAddress("s3://bucket/some/prefix?endpoint=" + srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func open(t *testing.T, a s3.Address) *s3.Store {
	t.Helper()
	s, err := s3.Open(a, s3.Options{AccessKey: "key", SecretKey: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestABucketKeepsWhatAnObjectStorePromises(t *testing.T) {
	objtest.Run(t, objtest.Abilities{}, func(t *testing.T) objstore.Store { return open(t, fake(t, nil)) })
}

func TestAStoreSeesOnlyWhatIsBelowItsPrefix(t *testing.T) {
	a := fake(t, nil)
	b := a
	b.Prefix = "some/prefix2"
	one, two := open(t, a), open(t, b)
	if _, err := two.Put(t.Context(), "x", strings.NewReader("x"), objstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if list, _, err := one.List(t.Context(), "", "", 10); err != nil || len(list) != 0 {
		t.Fatalf("%+v, %v", list, err)
	}
}

func TestAnswersOfTheEngineAreTold(t *testing.T) {
	for _, tc := range []struct {
		name   string
		status int
		code   string
		want   error
	}{
		{"a wrong key", http.StatusForbidden, "SignatureDoesNotMatch", objstore.ErrDenied},
		{"a key that nobody has", http.StatusNotFound, "InvalidAccessKeyId", objstore.ErrDenied},
		{"no bucket", http.StatusNotFound, "NoSuchBucket", objstore.ErrBucket},
		{"a clock that is wrong", http.StatusForbidden, "RequestTimeTooSkewed", objstore.ErrClock},
		{"a directory of files", http.StatusConflict, "ObjectParentIsFile", objstore.ErrKey},
		{"a lost race", http.StatusConflict, "ConditionalRequestConflict", objstore.ErrPrecondition},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := open(t, fake(t, func(http.Handler) http.Handler { return says(tc.status, tc.code) }))
			if _, err := s.Put(t.Context(), "x", strings.NewReader("x"), objstore.PutOptions{If: objstore.IfAbsent}); !errors.Is(err, tc.want) {
				t.Errorf("put: %v, want %v", err, tc.want)
			}
			if _, _, err := s.List(t.Context(), "", "", 1); !errors.Is(err, tc.want) {
				t.Errorf("list: %v, want %v", err, tc.want)
			}
		})
	}
}

func TestABusyEngineSaysWhenToComeAgain(t *testing.T) {
	var asked int
	s := open(t, fake(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked++
			w.Header().Set("Retry-After", "7")
			says(http.StatusServiceUnavailable, "SlowDown").ServeHTTP(w, r)
		})
	}))
	_, err := s.Put(t.Context(), "x", strings.NewReader("x"), objstore.PutOptions{})
	if b, ok := errors.AsType[*objstore.BusyError](err); !ok || b.After.Seconds() != 7 {
		t.Errorf("err = %v", err)
	}
	if asked != 1 {
		t.Errorf("it was asked %d times", asked)
	}
}

func says(status int, code string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		_, _ = w.Write([]byte("<Error><Code>" + code + "</Code><Message>no</Message></Error>"))
	})
}

func TestAnEngineWhoseCertificateNobodySignedIsNotTrusted(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // it tells of each refusal
	srv.StartTLS()
	t.Cleanup(srv.Close)
	a, err := s3.ParseAddress("s3://bucket?endpoint=" + srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, a).Stat(t.Context(), "x"); !errors.Is(err, objstore.ErrUntrusted) {
		t.Errorf("%v", err)
	}
}
