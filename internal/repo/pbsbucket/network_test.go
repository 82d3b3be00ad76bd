package pbsbucket_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/mem"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/fetch"
	"github.com/holdfast-backup/holdfast/internal/repo/pbsbucket"
)

const web = "host/web1/2026-11-30T01:20:57Z"

func TestManifestsAreFetchedManyAtATime(t *testing.T) {
	b, r, _ := theServers(t)
	// 500 more snapshots, whose manifests are those of another.
	for i := range 500 {
		n := parse(t, "vm/100/2026-11-30T01:21:00Z")
		n.Time += int64(i + 1)
		b.change(t, ".cnt/"+n.Path()+"/index.json.blob", func([]byte) []byte { return []byte("no manifest") })
	}
	synctest.Test(t, func(t *testing.T) {
		b.slow = 30 * time.Millisecond
		b.lists.Store(0)
		start := time.Now()
		list, err := r.Snapshots(t.Context(), names.Root, nil)
		if err != nil || len(list) != 503 || b.most.Load() < 64 || b.lists.Load() > 4 {
			t.Errorf("%d snapshots, %v, %d manifests at a time, %d pages", len(list), err, b.most.Load(), b.lists.Load())
		}
		if took := time.Since(start); took > 300*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		damaged := 0
		for _, s := range list {
			if _, ok := errors.AsType[*repo.CorruptError](s.Problem); ok && s.Finished {
				damaged++
			}
		}
		if damaged != 500 {
			t.Errorf("%d manifests are said to be damaged", damaged)
		}
	})
}

func TestNamespacesAreFoundWithoutListingTheirGroups(t *testing.T) {
	b, r, _ := theServers(t)
	for i := range 5000 {
		b.change(t, fmt.Sprintf(".cnt/ns/a/host/crypt/%s/x.blob", names.FormatTime(int64(1700000000+i))), func([]byte) []byte { return nil })
	}
	b.lists.Store(0)
	got, err := r.Namespaces(t.Context(), names.Root)
	if err != nil || len(got) != 4 || b.lists.Load() > 2 {
		t.Errorf("%q, %v, with %d requests", got, err, b.lists.Load())
	}
}

func TestChunksComeManyAtATime(t *testing.T) {
	b, r, _ := theServers(t)
	ds := make([]digest.Digest, 640)
	for i := range ds {
		ds[i] = digest.Of([]byte(fmt.Sprint(i)))
		b.change(t, names.ChunkPath(ds[i]), func([]byte) []byte { return ds[i][:] })
	}
	synctest.Test(t, func(t *testing.T) {
		b.slow = 30 * time.Millisecond
		snap, err := r.Open(t.Context(), parse(t, web))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = snap.Close() }()
		start := time.Now()
		ahead, ok := snap.(fetch.Prefetcher)
		if !ok {
			t.Fatal("nothing can be announced")
		}
		ahead.Prefetch(ds[1:]) // the first one comes when it is asked for
		for _, d := range ds {
			if raw, err := snap.ReadChunk(t.Context(), d, nil); err != nil || digest.Digest(raw) != d {
				t.Fatalf("chunk %s: %x, %v", d, raw, err)
			}
		}
		if took := time.Since(start); took > 300*time.Millisecond || b.most.Load() < 64 {
			t.Errorf("%d chunks took %v, %d at a time", len(ds), took, b.most.Load())
		}
	})
}

// torn gives at most some bytes of an object and then breaks.
type torn struct {
	objstore.Store
	bytes int64
	calls atomic.Int64
}

func (s *torn) Get(ctx context.Context, key string, off, n int64) (objstore.Object, error) {
	s.calls.Add(1)
	o, err := s.Store.Get(ctx, key, off, n)
	if err != nil {
		return o, err
	}
	return objstore.Object{Info: o.Info, ReadCloser: &short{ReadCloser: o.ReadCloser, left: s.bytes}}, nil
}

type short struct {
	io.ReadCloser
	left int64
}

func (s *short) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := s.ReadCloser.Read(p[:min(int64(len(p)), s.left)])
	s.left -= int64(n)
	return n, err
}

func TestAConnectionThatBreaksIsTakenUpWhereItBroke(t *testing.T) {
	b, _, want := theServers(t)
	s := &torn{Store: b, bytes: 700}
	r, err := pbsbucket.Open(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	path := web + "/tree.pxar.didx"
	snap, err := r.Open(t.Context(), parse(t, web))
	if err != nil {
		t.Fatal(err)
	}
	got, err := content(t.Context(), snap, "tree.pxar.didx", nil)
	if err != nil || fmt.Sprintf("%x", sha256.Sum256(got)) != want.Archives[path].SHA256 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	synctest.Test(t, func(t *testing.T) {
		s.bytes = 0
		if _, err := r.Open(t.Context(), parse(t, web)); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("a connection that always breaks: %v", err)
		}
	})
}

func TestAnObjectThatIsReplacedWhileItIsReadIsNotMixed(t *testing.T) {
	b, _, _ := theServers(t)
	s := &torn{Store: b, bytes: 100}
	r, err := pbsbucket.Open(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	b.get = func(key string) error {
		if s.calls.Load() == 2 && strings.HasSuffix(key, "index.json.blob") {
			once.Do(func() { b.change(t, key, func(old []byte) []byte { return append(old, 0) }) })
		}
		return nil
	}
	if _, err := r.Open(t.Context(), parse(t, web)); err == nil || !strings.Contains(err.Error(), "replaced") {
		t.Errorf("err = %v", err)
	}
}

func TestAnInterruptionEndsReading(t *testing.T) {
	_, r, _ := theServers(t)
	snap, err := r.Open(t.Context(), parse(t, web))
	if err != nil {
		t.Fatal(err)
	}
	stop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	if _, err := snap.ReadChunk(ctx, digest.Of(nil), nil); !errors.Is(err, stop) {
		t.Errorf("a chunk: %v", err)
	}
	if _, err := r.Snapshots(ctx, names.Root, nil); !errors.Is(err, stop) {
		t.Errorf("a listing: %v", err)
	}
	if err := snap.Close(); err != nil {
		t.Error(err)
	}
	if _, _, err := snap.OpenDynamic("tree.pxar.didx"); err == nil {
		t.Error("an index was opened in a snapshot that is closed")
	}
}

func TestWhatCannotBeFoundOutIsNoDamage(t *testing.T) {
	b, r, _ := theServers(t)
	snap, err := r.Open(t.Context(), parse(t, web))
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("no route to host")
	b.get = func(string) error { return broken }
	_, _, indexErr := snap.OpenDynamic("tree.pxar.didx")
	_, chunkErr := snap.ReadChunk(t.Context(), digest.Of(nil), nil)
	_, blobErr := snap.Blob("tree.pxar.didx")
	_, listErr := r.Snapshots(t.Context(), names.Root, nil)
	_, groupErr := r.Groups(t.Context(), names.Root)
	_, openErr := r.Open(t.Context(), parse(t, web))
	for _, err := range []error{indexErr, chunkErr, blobErr, listErr, groupErr, openErr} {
		if _, damage := errors.AsType[*repo.CorruptError](err); damage || !errors.Is(err, broken) || errors.Is(err, repo.ErrNotFound) {
			t.Errorf("err = %v", err)
		}
	}
}

func TestUsageIsWhatTheChunksTake(t *testing.T) {
	b := &bucket{Store: mem.New(time.Now, false)}
	for i := range 1500 {
		b.change(t, names.ChunkPath(digest.Of([]byte{byte(i), byte(i >> 8)})), func([]byte) []byte { return make([]byte, 10) })
	}
	b.change(t, ".cnt/vm/1/owner", func([]byte) []byte { return []byte("x") })
	r, err := pbsbucket.Open(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	if u, err := r.Usage(t.Context()); err != nil || u.Used != 15000 || u.Available != 0 {
		t.Errorf("%+v, %v", u, err)
	}
}
