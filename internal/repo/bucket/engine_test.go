package bucket_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/objstore/objtest/gateway"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest/contract"
)

// The model keeps what an engine promises; here is one.
func TestABucketOfARealEngineKeepsThePromisesOfRepositories(t *testing.T) {
	g := gateway.Start(t)
	g.Bucket(t, "promises", false)
	number := 0
	contract.Run(t, func(t *testing.T) contract.Fixture {
		number++
		prefix := fmt.Sprintf("promises/%d", number)
		store := g.Open(t, g.Address(t, prefix))
		if err := bucket.Create(t.Context(), store, bucket.CreateOptions{PackSize: packSize}); err != nil {
			t.Fatal(err)
		}
		open := func(t *testing.T) *bucket.Repository {
			r, err := bucket.Open(t.Context(), store, bucket.Options{})
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		r := open(t)
		return contract.Fixture{
			Repository: r, Start: time.Now(),
			Reopen: func(t *testing.T) contract.Repository { return open(t) },
			Spoil:  func(t *testing.T, chunk []byte) { spoilFiles(t, filepath.Join(g.Dir, prefix), chunk) },
			Sweep: func(t *testing.T) (repo.GCStatus, error) {
				return r.GC(t.Context(), repo.GCOptions{})
			},
		}
	})
}

// spoilFiles damages the packs in a directory in which some bytes are.
func spoilFiles(t *testing.T, dir string, chunk []byte) {
	t.Helper()
	found := false
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(path, "/s/") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		at := bytes.Index(b, chunk)
		if at < 0 {
			return nil
		}
		found = true
		b[at+len(chunk)-1] ^= 1
		return os.WriteFile(path, b, 0o600)
	})
	if err == nil && !found {
		t.Fatal("no pack has the chunk")
	}
	if err != nil {
		t.Fatal(err)
	}
}
