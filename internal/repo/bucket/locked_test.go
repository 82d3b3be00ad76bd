package bucket_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/objtest/gateway"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest/contract"
)

// A client backs up with keys that remove nothing; a collection has others. Whatever the client
// forgets, and whatever the keys of the collection are used for, what is locked can be read.
func TestWhatIsLockedOutlivesAllKeys(t *testing.T) {
	g := gateway.Start(t)
	at := g.Bucket(t, "locked", true)
	owner := g.Open(t, at)
	o := bucket.CreateOptions{PackSize: packSize, Retention: &catalog.Retention{Mode: "governance", Days: 1}}
	if err := bucket.Create(t.Context(), owner, o); err != nil {
		t.Fatal(err)
	}
	secret := g.User(t, "client", "locked", "s3:GetObject", "s3:PutObject", "s3:ListBucket", "s3:PutObjectRetention")
	client := opened(t, g.OpenAs(t, at, "client", secret), bucket.Options{})
	c, rng := contract.NewClient(t), rand.New(rand.NewPCG(7, 8))
	n := names.Snapshot{Group: names.Group{Type: names.VM, ID: "100"}, Time: 1_700_000_000}
	what := contract.Random(rng, 40)
	if err := c.Backup(t.Context(), client, n, what); err != nil {
		t.Fatal(err)
	}
	kept := names.Snapshot{Group: n.Group, Time: n.Time + 3600}
	then := what.Changed(rng)
	if err := c.Backup(t.Context(), client, kept, then); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond) // the engine's clock has seconds
	before := time.Now()
	time.Sleep(1100 * time.Millisecond)
	if err := client.Forget(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*bucket.Repository{client, opened(t, owner, bucket.Options{})} {
		for range 2 {
			if st, err := r.GC(t.Context(), repo.GCOptions{}); err != nil || st.RemovedBytes != 0 || len(st.Warnings) > 0 {
				t.Fatalf("%+v, %v", st, err)
			}
		}
	}
	past := opened(t, owner, bucket.Options{At: before})
	if got, err := c.Restore(t.Context(), past, n); err != nil || !got.Equal(what) {
		t.Fatalf("it does not restore: %v", err)
	}
	// With all rights everything can be hidden, and nothing destroyed.
	keys := 0
	for i, err := range objstore.All(t.Context(), owner, "", "") {
		if err != nil {
			t.Fatal(err)
		}
		if err := owner.Delete(t.Context(), []string{i.Key}); err != nil {
			t.Fatal(err)
		}
		keys++
	}
	if _, err := bucket.Open(t.Context(), owner, bucket.Options{}); !errors.Is(err, repo.ErrNotFound) {
		t.Fatalf("after all was removed: %v", err)
	}
	for _, key := range g.Destroy(t, "locked") {
		if !strings.Contains(key, "/lease") && !strings.HasPrefix(key, "clock/") {
			t.Errorf("%s is destroyed", key)
		}
	}
	g.Undelete(t, "locked")
	if got, err := c.Restore(t.Context(), opened(t, owner, bucket.Options{}), kept); err != nil || !got.Equal(then) {
		t.Fatalf("after %d objects were brought back it does not restore: %v", keys, err)
	}
}

func opened(t *testing.T, s objstore.Store, o bucket.Options) *bucket.Repository {
	t.Helper()
	r, err := bucket.Open(t.Context(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}
