package datastore_test

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest/contract"
)

// An index that says a wrong length of a chunk is damaged itself. The chunk is sound
// and stays for whom it belongs to, or whoever writes indexes could remove the
// chunks of others.
func TestAnIndexWithWrongLengthsCostsNobodyAChunk(t *testing.T) {
	for name, wrong := range map[string]uint64{"shorter": contract.ChunkSize / 2, "longer": contract.ChunkSize * 2} {
		t.Run(name, func(t *testing.T) {
			d := newDisk(t)
			s, c := mustOpen(t, d), newClient(t)
			want := contract.Random(rand.New(rand.NewPCG(1, 1)), 4)
			good := snapshotAt("100", d.Now())
			if err := c.backup(t.Context(), s, good, want.Image, want.Conf); err != nil {
				t.Fatal(err)
			}
			d.Advance(time.Hour)
			bad := snapshotAt("666", d.Now())
			ses := begin(t, s, bad)
			w, err := ses.CreateDynamic(contract.TreeName)
			if err != nil {
				t.Fatal(err)
			}
			for i := range uint64(2) {
				if err := w.Add(wrong*(i+1), digest.Of(want.Image[i*contract.ChunkSize:(i+1)*contract.ChunkSize])); err != nil {
					t.Fatal(err)
				}
			}
			size, sum, err := w.Close()
			if err != nil {
				t.Fatal(err)
			}
			m := manifest.New(bad)
			if err := m.Add(manifest.File{Filename: contract.TreeName.String(), CryptMode: manifest.ModeNone, Size: size, Csum: sum}); err != nil {
				t.Fatal(err)
			}
			if err := ses.Finish(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			// The bad one first: what is known of a chunk counts for the other one too.
			for _, order := range [][]string{{"666", "100"}, {"100", "666"}} {
				for _, id := range order {
					n := map[string]int{"100": 0, "666": 1}[id]
					g := snapshotAt(id, d.Now()).Group
					rep, err := s.Verify(t.Context(), repo.VerifyOptions{Group: &g})
					if err != nil || len(rep.Snapshots) != 1 || (len(rep.Snapshots[0].Errors) > 0) != (n == 1) {
						t.Errorf("%s: %+v, %v", id, rep, err)
					}
				}
			}
			rep, err := s.Verify(t.Context(), repo.VerifyOptions{})
			if err != nil || len(rep.Snapshots) != 2 {
				t.Fatalf("%+v, %v", rep, err)
			}
			for _, v := range rep.Snapshots {
				if (len(v.Errors) > 0) != (v.Snapshot == bad) {
					t.Errorf("%s: %v", v.Snapshot, v.Errors)
				}
			}
			img, conf, err := c.restore(t.Context(), s, good)
			if err != nil || !bytes.Equal(img, want.Image) || !bytes.Equal(conf, want.Conf) {
				t.Errorf("the other one does not restore: %v", err)
			}
		})
	}
}
