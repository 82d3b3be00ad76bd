package datastore_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest/contract"
)

func TestADatastoreKeepsThePromisesOfRepositories(t *testing.T) {
	contract.Run(t, func(t *testing.T) contract.Fixture {
		d := newDisk(t)
		s := mustOpen(t, d)
		return contract.Fixture{
			Repository: s, Start: d.Now(),
			Reopen: func(t *testing.T) contract.Repository {
				other, err := open(d.Process(), d)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = other.Close() })
				return other
			},
			Spoil: func(t *testing.T, chunk []byte) {
				for _, f := range d.Files() {
					if b, err := d.Content(f); err == nil && strings.HasPrefix(f, ".chunks/") && bytes.Equal(b, chunk) {
						spoil(t, d, f)
					}
				}
			},
			Sweep: func(t *testing.T) (repo.GCStatus, error) {
				d.Advance(48 * time.Hour)
				return s.GC(t.Context(), repo.GCOptions{Cutoff: 24*time.Hour + 5*time.Minute, SkipAtimeCheck: true})
			},
		}
	})
}
