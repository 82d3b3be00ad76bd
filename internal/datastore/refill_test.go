package datastore_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest/contract"
)

func takeAway(t *testing.T, c *client, s *datastore.Store, n names.Snapshot) contract.Copy {
	t.Helper()
	all, err := c.TakeAway(t.Context(), s, n)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestSnapshotsComeBackInAnyOrderAndByteForByte(t *testing.T) {
	src, dst, c := mustOpen(t, newDisk(t)), newDisk(t), newClient(t)
	to := mustOpen(t, dst)
	rng := rand.New(rand.NewPCG(3, 3))
	want := []content{contract.Random(rng, 4)}
	want = append(want, want[0].Changed(rng))
	var copies []contract.Copy
	var stats []manifest.UploadStats
	for i, w := range want {
		n := snapshotAt("100", time.Unix(1_700_000_000+int64(i)*3600, 0))
		if err := c.backup(t.Context(), src, n, w.Image, w.Conf); err != nil {
			t.Fatal(err)
		}
		copies = append(copies, takeAway(t, c, src, n))
		stats = append(stats, *copies[i].Manifest.UploadStats())
	}
	r, err := to.Refill(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{1, 0} { // the newer one first
		for d, raw := range copies[i].Chunks {
			if _, err := r.Put(t.Context(), d, raw); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.BringBack(t.Context(), r, copies[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	for i, w := range want {
		img, conf, err := c.restore(t.Context(), to, copies[i].Name)
		if err != nil || !bytes.Equal(img, w.Image) || !bytes.Equal(conf, w.Conf) {
			t.Errorf("%s: %v", copies[i].Name, err)
		}
		back := takeAway(t, c, to, copies[i].Name)
		for name, raw := range copies[i].Files {
			if !bytes.Equal(back.Files[name], raw) {
				t.Errorf("%s of %s is not what it was", name, copies[i].Name)
			}
		}
		if got := back.Manifest.UploadStats(); got == nil || *got != stats[i] {
			t.Errorf("the manifest of %s says %+v of its backup, and said %+v", copies[i].Name, got, stats[i])
		}
	}
}

func TestSnapshotThatLacksAChunkDoesNotComeBack(t *testing.T) {
	src, to, c := mustOpen(t, newDisk(t)), mustOpen(t, newDisk(t)), newClient(t)
	w := contract.Random(rand.New(rand.NewPCG(4, 4)), 3)
	n := snapshotAt("100", time.Unix(1_700_000_000, 0))
	if err := c.backup(t.Context(), src, n, w.Image, w.Conf); err != nil {
		t.Fatal(err)
	}
	was := takeAway(t, c, src, n)
	for lacking := range was.Chunks {
		r, err := to.Refill(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for d, raw := range was.Chunks {
			if d == lacking { // a chunk that is damaged is no chunk
				raw = bytes.Clone(raw)
				raw[len(raw)-1] ^= 1
				if _, err := r.Put(t.Context(), d, raw); err == nil {
					t.Error("a damaged chunk was stored")
				}
				continue
			}
			if _, err := r.Put(t.Context(), d, raw); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.BringBack(t.Context(), r, was); !errors.Is(err, repo.ErrChunkMissing) {
			t.Errorf("without %s: %v", lacking, err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if infos, err := to.Snapshots(t.Context(), "", nil); err != nil || len(infos) > 0 {
			t.Fatalf("%v, %v", infos, err)
		}
		break
	}
}

func TestWhatIsNoIndexIsRefused(t *testing.T) {
	src, to, c := mustOpen(t, newDisk(t)), mustOpen(t, newDisk(t)), newClient(t)
	w := contract.Random(rand.New(rand.NewPCG(5, 5)), 3)
	n := snapshotAt("100", time.Unix(1_700_000_000, 0))
	if err := c.backup(t.Context(), src, n, w.Image, w.Conf); err != nil {
		t.Fatal(err)
	}
	was := takeAway(t, c, src, n)
	r, err := to.Refill(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	for _, name := range []names.Archive{contract.ImageName, contract.TreeName} {
		for _, tc := range []struct {
			name  string
			spoil func([]byte) []byte
		}{
			{"cut", func(b []byte) []byte { return b[:len(b)-1] }},
			{"another entry", func(b []byte) []byte { b[len(b)-1] ^= 1; return b }},
			{"nothing", func([]byte) []byte { return nil }},
		} {
			ses, err := r.Begin(t.Context(), repo.Begin{Snapshot: n})
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = ses.PutIndex(t.Context(), name, bytes.NewReader(tc.spoil(bytes.Clone(was.Files[name]))))
			if _, ok := errors.AsType[*repo.CorruptError](err); !ok {
				t.Errorf("%s, %s: %v", name, tc.name, err)
			}
			if err := ses.Finish(t.Context(), was.Manifest); err == nil {
				t.Error("a snapshot without its index is there")
			}
			if err := ses.Abort(); err != nil {
				t.Error(err)
			}
		}
	}
	var failing io.Reader = io.MultiReader(bytes.NewReader(was.Files[contract.ImageName][:100]), errReader{})
	ses, err := r.Begin(t.Context(), repo.Begin{Snapshot: n})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ses.Abort() }()
	if _, _, err := ses.PutIndex(t.Context(), contract.ImageName, failing); !errors.Is(err, errTape) {
		t.Error(err)
	}
}

var errTape = errors.New("the tape tore")

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errTape }

func TestChunksStayWhileASnapshotComesBack(t *testing.T) {
	d := newDisk(t)
	src, to, c := mustOpen(t, newDisk(t)), mustOpen(t, d), newClient(t)
	w := contract.Random(rand.New(rand.NewPCG(6, 6)), 3)
	n := snapshotAt("100", time.Unix(1_700_000_000, 0))
	if err := c.backup(t.Context(), src, n, w.Image, w.Conf); err != nil {
		t.Fatal(err)
	}
	was := takeAway(t, c, src, n)
	r, err := to.Refill(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for dg, raw := range was.Chunks {
		if _, err := r.Put(t.Context(), dg, raw); err != nil {
			t.Fatal(err)
		}
	}
	d.Advance(100 * time.Hour) // a long tape
	if _, err := to.GC(t.Context(), repo.GCOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.BringBack(t.Context(), r, was); err != nil {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if bad := verifyAll(t, to); bad > 0 {
		t.Error("the snapshot is not whole")
	}
}
