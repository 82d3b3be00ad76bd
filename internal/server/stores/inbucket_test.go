package stores_test

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/property"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest/contract"
	"github.com/holdfast-backup/holdfast/internal/secret"
	"github.com/holdfast-backup/holdfast/internal/server/buckets"
	"github.com/holdfast-backup/holdfast/internal/server/stores"
)

// engine makes an object store known that has an empty bucket "backups"; while down is
// set it does not answer.
func engine(t *testing.T, conf confdir.Dir) (srv *httptest.Server, down *atomic.Bool) {
	t.Helper()
	back := s3mem.New()
	if err := back.CreateBucket("backups"); err != nil {
		t.Fatal(err)
	}
	next := gofakes3.New(back).Server()
	down = new(atomic.Bool)
	srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down.Load() {
			<-r.Context().Done()
			return
		}
		next.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	host, port, _ := strings.Cut(strings.TrimPrefix(srv.URL, "http://"), ":")
	key := secret.New([]byte("secret"))
	if err := buckets.Set(t.Context(), conf, "engine", "", true, property.Values{
		"endpoint": {"http://" + host}, "port": {port}, "path-style": {"true"}, "access-key": {"key"},
	}, &key); err != nil {
		t.Fatal(err)
	}
	return srv, down
}

const inBackups = "type=s3,client=engine,bucket=backups"

func TestWhatWasReadOfABucketIsKept(t *testing.T) {
	s, conf, base := fixture(t)
	engine(t, conf)
	cache := filepath.Join(base, "cache")
	if err := s.Add(t.Context(), stores.Addition{Name: "cloud", Path: cache, Backend: inBackups + ",max-cache-size=1GiB"}); err != nil {
		t.Fatal(err)
	}
	h, err := s.Open("cloud", stores.Write)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	c, what := contract.NewClient(t), contract.Random(rand.New(rand.NewPCG(1, 1)), 50)
	n := names.Snapshot{Group: names.Group{Type: names.VM, ID: "100"}, Time: 1_700_000_000}
	if err := c.Backup(t.Context(), h, n, what); err != nil {
		t.Fatal(err)
	}
	reads := func() int64 {
		t.Helper()
		before, _ := h.Traffic()
		if got, err := c.Restore(t.Context(), h, n); err != nil || !got.Equal(what) {
			t.Fatalf("it comes back as another, or not: %v", err)
		}
		after, _ := h.Traffic()
		return after.Since(before.Counts).Down
	}
	first, second := reads(), reads()
	if first < int64(len(what.Image)) || second > first/10 {
		t.Errorf("%d bytes are read of the engine, and then %d", first, second)
	}
	if _, err := os.Stat(filepath.Join(cache, ".holdfast", "objects")); err != nil {
		t.Error(err)
	}
}

// What a cache has of a repository is not taken for that of another in its place.
func TestARepositoryMadeAnewHasNothingOfTheOneBefore(t *testing.T) {
	s, conf, base := fixture(t)
	engine(t, conf)
	c, rng := contract.NewClient(t), rand.New(rand.NewPCG(1, 2))
	n := names.Snapshot{Group: names.Group{Type: names.VM, ID: "100"}, Time: 1_700_000_000}
	for range 2 {
		if err := s.Add(t.Context(), stores.Addition{Name: "cloud", Path: filepath.Join(base, "cache"), Backend: inBackups + ",max-cache-size=1GiB"}); err != nil {
			t.Fatal(err)
		}
		h, err := s.Open("cloud", stores.Write)
		if err != nil {
			t.Fatal(err)
		}
		what := contract.Random(rng, 50)
		if err := c.Backup(t.Context(), h, n, what); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if got, err := c.Restore(t.Context(), h, n); err != nil || !got.Equal(what) {
				t.Errorf("it comes back as another, or not: %v", err)
			}
		}
		if err := errors.Join(h.Close(), s.Remove(t.Context(), "", "cloud")); err != nil {
			t.Fatal(err)
		}
		client, err := buckets.Find(conf, "engine")
		if err != nil {
			t.Fatal(err)
		}
		b, err := client.Open("backups", "cloud")
		if err != nil {
			t.Fatal(err)
		}
		for o, err := range objstore.All(t.Context(), b, "", "") {
			if err := errors.Join(err, b.Delete(t.Context(), []string{o.Key})); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStoresInBucketsDoNotLieInOneAnother(t *testing.T) {
	s, conf, base := fixture(t)
	engine(t, conf)
	if err := s.Add(t.Context(), stores.Addition{Name: "cloud", Backend: inBackups + ",prefix=a/b"}); err != nil {
		t.Fatal(err)
	}
	for name, a := range map[string]stores.Addition{
		"the same":            {Name: "other", Backend: inBackups + ",prefix=a/b", Reuse: true},
		"inside":              {Name: "other", Backend: inBackups + ",prefix=a/b/c"},
		"around":              {Name: "other", Backend: inBackups + ",prefix=a"},
		"no bucket":           {Name: "other", Backend: "type=s3,client=engine"},
		"a cache of nowhere":  {Name: "other", Backend: inBackups + ",max-cache-size=1GiB"},
		"another backend":     {Name: "other", Backend: "type=tape"},
		"neither":             {Name: "other"},
		"an unknown engine":   {Name: "other", Backend: "type=s3,client=none,bucket=backups"},
		"what is not there":   {Name: "other", Backend: inBackups, Reuse: true},
		"a bucket of nowhere": {Name: "other", Backend: "type=s3,client=engine,bucket=elsewhere"},
	} {
		if err := s.Add(t.Context(), a); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if err := s.Add(t.Context(), stores.Addition{Name: "second", Backend: inBackups, Path: filepath.Join(base, "x")}); err != nil {
		t.Errorf("beside: %v", err)
	}
}

// While an engine does not answer, only those wait who need it.
func TestAnEngineThatIsSilentKeepsNobodyElseWaiting(t *testing.T) {
	s, conf, base := fixture(t)
	add(t, s, base, "tank")
	srv, down := engine(t, conf)
	if err := s.Add(t.Context(), stores.Addition{Name: "cloud", Backend: inBackups}); err != nil {
		t.Fatal(err)
	}
	down.Store(true)
	opened := make(chan error, 1)
	go func() {
		h, err := s.Open("cloud", stores.Read)
		if err == nil {
			err = h.Close()
		}
		opened <- err
	}()
	for reading := 0; reading == 0; { // until it waits
		reading, _ = s.Active("cloud")
	}
	h, err := s.Open("tank", stores.Write)
	if err != nil {
		t.Fatal(err)
	}
	if s.Ready("cloud") || !s.Ready("tank") {
		t.Error("what is ready is not known")
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	down.Store(false)
	srv.CloseClientConnections() // it is asked again
	if err := <-opened; err != nil {
		t.Error(err)
	}
}

func TestAnEngineWithoutConditionsHoldsNoRepository(t *testing.T) {
	s, conf, _ := fixture(t)
	engine(t, conf)
	if err := buckets.Set(t.Context(), conf, "engine", "", false, property.Values{"provider-quirks": {buckets.NoConditions}}, nil); err != nil {
		t.Fatal(err)
	}
	err := s.Add(t.Context(), stores.Addition{Name: "cloud", Backend: inBackups})
	if err == nil || !strings.Contains(err.Error(), buckets.NoConditions) {
		t.Errorf("%v", err)
	}
	if _, err := s.Find("cloud"); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("it is configured: %v", err)
	}
}
