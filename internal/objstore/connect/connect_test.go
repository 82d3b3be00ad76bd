package connect_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/connect"
	"github.com/holdfast-backup/holdfast/internal/objstore/faulty"
	"github.com/holdfast-backup/holdfast/internal/objstore/faulty/front"
	"github.com/holdfast-backup/holdfast/internal/objstore/meter"
	"github.com/holdfast-backup/holdfast/internal/objstore/objtest"
	"github.com/holdfast-backup/holdfast/internal/objstore/s3"
)

// open opens a bucket of an engine in this process.
func open(t *testing.T, p faulty.Plan, o connect.Options) *connect.Store {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("bucket"); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(front.New(gofakes3.New(backend).Server(), 1, p))
	t.Cleanup(srv.Close)
	at, err := s3.ParseAddress("s3://bucket/p?endpoint=" + srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	o.Keys.AccessKey, o.Keys.SecretKey = "key", "secret"
	s, err := connect.Open(at, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestAConnectedBucketKeepsWhatAnObjectStorePromises(t *testing.T) {
	objtest.Run(t, objtest.Abilities{}, func(t *testing.T) objstore.Store {
		s := open(t, faulty.Plan{}, connect.Options{CacheDir: t.TempDir(), CacheSize: 100 << 20, Up: 1 << 40, Down: 1 << 40, Requests: 3})
		s.Keep("x", nil)
		return s
	})
}

func TestTrafficTellsWhatTheEngineWasAsked(t *testing.T) {
	s := open(t, faulty.Plan{Busy: 1e-9, Mute: 0.3}, connect.Options{CacheDir: t.TempDir(), CacheSize: 1 << 20})
	s.Keep("x", nil)
	if _, err := s.Put(t.Context(), "o", strings.NewReader("0123456789"), objstore.PutOptions{If: objstore.IfAbsent}); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if b, _, err := objstore.ReadAll(t.Context(), s, "o", 10); err != nil || string(b) != "0123456789" {
			t.Fatalf("%q, %v", b, err)
		}
	}
	c := s.Traffic()
	if c.Hits != 19 || c.HitBytes != 190 || c.Up < 10 || c.Retries != c.Failed || c.Total() < 2+c.Retries || c.Requests[meter.List] != 0 {
		t.Errorf("%+v", c)
	}
}

func TestWithoutADirectoryNothingIsKept(t *testing.T) {
	s := open(t, faulty.Plan{}, connect.Options{})
	s.Keep("x", nil)
	if _, err := s.Put(t.Context(), "o", strings.NewReader("x"), objstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, _, err := objstore.ReadAll(t.Context(), s, "o", 10); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.Traffic().Requests[meter.Get]; n != 2 {
		t.Errorf("it was asked %d times", n)
	}
}
