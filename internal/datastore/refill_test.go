package datastore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// copyOf is a snapshot somewhere else: its files and its chunks.
type copyOf struct {
	name   names.Snapshot
	m      *manifest.Manifest
	files  map[names.Archive][]byte
	chunks map[digest.Digest][]byte
}

// takeAway reads all of a snapshot.
func takeAway(t *testing.T, s *datastore.Store, n names.Snapshot) copyOf {
	t.Helper()
	snap, err := s.Open(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = snap.Close() }()
	c := copyOf{n, snap.Manifest(), map[names.Archive][]byte{}, map[digest.Digest][]byte{}}
	take := func(d digest.Digest) error {
		raw, err := snap.ReadChunk(t.Context(), d, nil)
		c.chunks[d] = raw
		return err
	}
	for _, f := range c.m.Files {
		var b bytes.Buffer
		switch f.Archive().Kind() {
		case names.Fidx:
			x, closer, err := snap.OpenFixed(f.Archive())
			if err == nil {
				_, err = x.WriteTo(&b)
				err = errors.Join(err, x.Each(func(_ int, d digest.Digest) error { return take(d) }), closer.Close())
			}
			if err != nil {
				t.Fatal(err)
			}
		case names.Didx:
			x, closer, err := snap.OpenDynamic(f.Archive())
			if err == nil {
				_, err = x.WriteTo(&b)
				err = errors.Join(err, x.Each(func(_ int, _, _ int64, d digest.Digest) error { return take(d) }), closer.Close())
			}
			if err != nil {
				t.Fatal(err)
			}
		default:
			raw, err := snap.Blob(f.Archive())
			if err != nil {
				t.Fatal(err)
			}
			b.Write(raw)
		}
		c.files[f.Archive()] = b.Bytes()
	}
	return c
}

// bringBack stores the files of a copy, whose chunks are there already.
func bringBack(ctx context.Context, r repo.Refill, c copyOf) (err error) {
	ses, err := r.Begin(ctx, repo.Begin{Snapshot: c.name})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ses.Abort())
		}
	}()
	for _, f := range c.m.Files {
		raw := c.files[f.Archive()]
		if f.Archive().Kind() == names.Blob {
			if err := ses.PutBlob(ctx, f.Archive(), raw); err != nil {
				return err
			}
			continue
		}
		size, sum, err := ses.PutIndex(ctx, f.Archive(), bytes.NewReader(raw))
		if err == nil && (size != f.Size || sum != f.Csum) {
			err = fmt.Errorf("%s: %d bytes, %s", f.Filename, size, sum)
		}
		if err != nil {
			return err
		}
	}
	return ses.Finish(ctx, c.m)
}

func TestSnapshotsComeBackInAnyOrderAndByteForByte(t *testing.T) {
	src, dst, c := mustOpen(t, newDisk(t)), newDisk(t), newClient(t)
	to := mustOpen(t, dst)
	rng := rand.New(rand.NewPCG(3, 3))
	want := []content{randomContent(rng, 4)}
	want = append(want, want[0].changed(rng))
	var copies []copyOf
	var stats []manifest.UploadStats
	for i, w := range want {
		n := snapshotAt("100", time.Unix(1_700_000_000+int64(i)*3600, 0))
		if err := c.backup(t.Context(), src, n, w.img, w.conf); err != nil {
			t.Fatal(err)
		}
		copies = append(copies, takeAway(t, src, n))
		stats = append(stats, *copies[i].m.UploadStats())
	}
	r, err := to.Refill(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{1, 0} { // the newer one first
		for d, raw := range copies[i].chunks {
			if _, err := r.Put(t.Context(), d, raw); err != nil {
				t.Fatal(err)
			}
		}
		if err := bringBack(t.Context(), r, copies[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	for i, w := range want {
		img, conf, err := c.restore(t.Context(), to, copies[i].name)
		if err != nil || !bytes.Equal(img, w.img) || !bytes.Equal(conf, w.conf) {
			t.Errorf("%s: %v", copies[i].name, err)
		}
		back := takeAway(t, to, copies[i].name)
		for name, raw := range copies[i].files {
			if !bytes.Equal(back.files[name], raw) {
				t.Errorf("%s of %s is not what it was", name, copies[i].name)
			}
		}
		if got := back.m.UploadStats(); got == nil || *got != stats[i] {
			t.Errorf("the manifest of %s says %+v of its backup, and said %+v", copies[i].name, got, stats[i])
		}
	}
}

func TestSnapshotThatLacksAChunkDoesNotComeBack(t *testing.T) {
	src, to, c := mustOpen(t, newDisk(t)), mustOpen(t, newDisk(t)), newClient(t)
	w := randomContent(rand.New(rand.NewPCG(4, 4)), 3)
	n := snapshotAt("100", time.Unix(1_700_000_000, 0))
	if err := c.backup(t.Context(), src, n, w.img, w.conf); err != nil {
		t.Fatal(err)
	}
	was := takeAway(t, src, n)
	for lacking := range was.chunks {
		r, err := to.Refill(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for d, raw := range was.chunks {
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
		if err := bringBack(t.Context(), r, was); !errors.Is(err, repo.ErrChunkMissing) {
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
	w := randomContent(rand.New(rand.NewPCG(5, 5)), 3)
	n := snapshotAt("100", time.Unix(1_700_000_000, 0))
	if err := c.backup(t.Context(), src, n, w.img, w.conf); err != nil {
		t.Fatal(err)
	}
	was := takeAway(t, src, n)
	r, err := to.Refill(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	for _, name := range []names.Archive{imageName, treeName} {
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
			_, _, err = ses.PutIndex(t.Context(), name, bytes.NewReader(tc.spoil(bytes.Clone(was.files[name]))))
			if _, ok := errors.AsType[*repo.CorruptError](err); !ok {
				t.Errorf("%s, %s: %v", name, tc.name, err)
			}
			if err := ses.Finish(t.Context(), was.m); err == nil {
				t.Error("a snapshot without its index is there")
			}
			if err := ses.Abort(); err != nil {
				t.Error(err)
			}
		}
	}
	var failing io.Reader = io.MultiReader(bytes.NewReader(was.files[imageName][:100]), errReader{})
	ses, err := r.Begin(t.Context(), repo.Begin{Snapshot: n})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ses.Abort() }()
	if _, _, err := ses.PutIndex(t.Context(), imageName, failing); !errors.Is(err, errTape) {
		t.Error(err)
	}
}

var errTape = errors.New("the tape tore")

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errTape }

func TestChunksStayWhileASnapshotComesBack(t *testing.T) {
	d := newDisk(t)
	src, to, c := mustOpen(t, newDisk(t)), mustOpen(t, d), newClient(t)
	w := randomContent(rand.New(rand.NewPCG(6, 6)), 3)
	n := snapshotAt("100", time.Unix(1_700_000_000, 0))
	if err := c.backup(t.Context(), src, n, w.img, w.conf); err != nil {
		t.Fatal(err)
	}
	was := takeAway(t, src, n)
	r, err := to.Refill(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for dg, raw := range was.chunks {
		if _, err := r.Put(t.Context(), dg, raw); err != nil {
			t.Fatal(err)
		}
	}
	d.Advance(100 * time.Hour) // a long tape
	if _, err := to.GC(t.Context(), repo.GCOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := bringBack(t.Context(), r, was); err != nil {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if bad := verifyAll(t, to); bad > 0 {
		t.Error("the snapshot is not whole")
	}
}
