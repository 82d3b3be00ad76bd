package datastore_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/fetch"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest/contract"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// hinted records which chunks were announced, and which were read unannounced.
type hinted struct {
	vfs.FS
	mu          sync.Mutex
	hints       []string
	unannounced []string
}

func (h *hinted) WillNeed(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hints = append(h.hints, name)
}

func (h *hinted) Open(name string) (vfs.File, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if strings.HasPrefix(name, names.ChunkDir+"/") && !slices.Contains(h.hints, name) {
		h.unannounced = append(h.unannounced, name)
	}
	return h.FS.Open(name)
}

// hintedSnapshot is a snapshot of so many different chunks, and their names.
func hintedSnapshot(t *testing.T, chunks int) (*hinted, repo.Repository, repo.Snapshot, []digest.Digest) {
	t.Helper()
	d := newDisk(t)
	h := &hinted{FS: d}
	s, err := open(h, d)
	if err != nil {
		t.Fatal(err)
	}
	c := contract.Random(rand.New(rand.NewPCG(1, 2)), chunks)
	n := snapshotAt("100", d.Now())
	if err := newClient(t).backup(t.Context(), s, n, c.Image, c.Conf); err != nil {
		t.Fatal(err)
	}
	d.Advance(time.Hour)
	if err := newClient(t).backup(t.Context(), s, snapshotAt("100", d.Now()), c.Image, c.Conf); err != nil {
		t.Fatal(err)
	}
	snap, err := s.Open(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = snap.Close() })
	x, closer, err := snap.OpenFixed(contract.ImageName)
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	ds := make([]digest.Digest, x.Count())
	if err := x.Digests(0, ds); err != nil {
		t.Fatal(err)
	}
	h.hints, h.unannounced = nil, nil
	return h, s, snap, ds
}

func treeDigests(t *testing.T, snap repo.Snapshot) (ds []digest.Digest) {
	t.Helper()
	x, closer, err := snap.OpenDynamic(contract.TreeName)
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	if err := x.Each(func(_ int, _, _ int64, d digest.Digest) error { ds = append(ds, d); return nil }); err != nil {
		t.Fatal(err)
	}
	return ds
}

func paths(ds []digest.Digest) []string {
	var list []string
	for _, d := range ds {
		list = append(list, names.ChunkPath(d))
	}
	return list
}

func TestSnapshotPassesHintsOn(t *testing.T) {
	h, _, snap, ds := hintedSnapshot(t, 5)
	p, ok := snap.(fetch.Prefetcher)
	if !ok {
		t.Fatal("a snapshot takes no hints")
	}
	p.Prefetch(append(ds[2:4:4], digest.Of(nil)))
	if want := paths([]digest.Digest{ds[2], ds[3], digest.Of(nil)}); !slices.Equal(h.hints, want) {
		t.Errorf("hints %q, want %q", h.hints, want)
	}
}

func TestVerificationAnnouncesEachChunkOnce(t *testing.T) {
	h, s, snap, ds := hintedSnapshot(t, 15)                           // few enough that the set of the good ones forgets none
	rep, err := s.Verify(t.Context(), repo.VerifyOptions{Workers: 1}) // two snapshots of the same chunks
	tree := treeDigests(t, snap)
	if err != nil || rep.Chunks != int64(len(ds)+len(tree)) {
		t.Fatal(rep, err)
	}
	if want := append(paths(ds[4:]), paths(tree[4:])...); !slices.Equal(h.hints, want) {
		t.Errorf("%d hints, want %d", len(h.hints), len(want))
	}
	if want := append(paths(ds[:4]), paths(tree[:4])...); !slices.Equal(h.unannounced, want) {
		t.Errorf("%d chunks were read unannounced, want the first %d", len(h.unannounced), len(want))
	}
}
