package datastore_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest/contract"
)

// Two snapshots share every chunk; the older one is verified alone.
func TestBackupStoresAgainWhatVerifyingAnOlderSnapshotSetAside(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func([]byte) []byte // nil: the chunk is removed
	}{
		{"damaged", func(b []byte) []byte { b[len(b)-1] ^= 1; return b }},
		{"missing", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx := context.Background()
			d := newDisk(t)
			s, c := mustOpen(t, d), newClient(t)
			want := contract.Random(rand.New(rand.NewPCG(1, 1)), 4)
			var snaps []names.Snapshot
			next := func() names.Snapshot {
				d.Advance(time.Hour)
				n := snapshotAt("100", d.Now())
				if err := c.backup(ctx, s, n, want.Image, want.Conf); err != nil {
					t.Fatal(err)
				}
				return n
			}
			snaps = append(snaps, next(), next())
			chunk := names.ChunkPath(digest.Of(want.Image[:contract.ChunkSize]))
			var err error
			if tc.spoil != nil {
				err = d.Corrupt(chunk, tc.spoil)
			} else {
				err = d.Remove(chunk)
			}
			if err != nil {
				t.Fatal(err)
			}
			rep, err := s.Verify(ctx, repo.VerifyOptions{Snapshot: &snaps[0]})
			if err != nil || len(rep.Snapshots[0].Errors) == 0 {
				t.Fatalf("the damage was not found: %+v, %v", rep, err)
			}
			img, _, err := c.restore(ctx, s, next())
			if err != nil || !bytes.Equal(img, want.Image) {
				t.Fatalf("the next backup does not restore: %v", err)
			}
			if _, _, err := c.restore(ctx, s, snaps[1]); err != nil {
				t.Fatalf("the chunk is back, yet the snapshot before does not restore: %v", err)
			}
			if entries, err := d.ReadDir(".holdfast/lost"); err != nil || len(entries) != 0 {
				t.Fatalf("chunks still counted as lost: %v, %v", entries, err)
			}
		})
	}
}
