package backupclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// beginner is what both kinds of repository have here.
type beginner interface {
	Begin(ctx context.Context, b repo.Begin) (repo.Session, error)
}

const chunk = 4 << 20

// block is a full chunk with content of its own.
func block(n int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "block %08d ", n), chunk/15+1)[:chunk]
}

// The promises of repo.Session, held by a datastore and by one behind the wire.
func TestSessionsKeepTheirPromises(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) (beginner, *datastore.Store){
		"local": func(t *testing.T) (beginner, *datastore.Store) { s := store(t); return s, s },
		"wire": func(t *testing.T) (beginner, *datastore.Store) {
			s := store(t)
			w := &server{t: t, store: s}
			w.opts.Reader = func(ctx context.Context, n names.Snapshot) (repo.Snapshot, error) { return s.Open(ctx, n) }
			return w, s
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, p := range promises {
				t.Run(p.name, func(t *testing.T) {
					in, s := open(t)
					p.test(t, in, s)
				})
			}
		})
	}
}

func start(t *testing.T, in beginner, n names.Snapshot) repo.Session {
	t.Helper()
	s, err := in.Begin(t.Context(), repo.Begin{Snapshot: n})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Abort() })
	return s
}

// image writes an image of full blocks and a tail.
func write(t *testing.T, s repo.Session, name names.Archive, blocks ...[]byte) manifest.File {
	t.Helper()
	size := 0
	for _, b := range blocks {
		size += len(b)
	}
	w, err := s.CreateFixed(name, int64(size), chunk)
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range blocks {
		if err := w.Set(i, put(t, s, b)); err != nil {
			t.Fatal(err)
		}
	}
	sum, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return manifest.File{Filename: string(name), Size: uint64(size), Csum: sum}
}

var promises = []struct {
	name string
	test func(t *testing.T, in beginner, s *datastore.Store)
}{
	{"an image in any order", func(t *testing.T, in beginner, s *datastore.Store) {
		ses := start(t, in, vm100)
		const slots = 700 // more than go in one call
		w, err := ses.CreateFixed("d.img.fidx", slots*chunk-5, chunk)
		if err != nil {
			t.Fatal(err)
		}
		a, tail := put(t, ses, block(1)), put(t, ses, block(2)[:chunk-5])
		var wg sync.WaitGroup
		for i := range slots - 1 {
			wg.Go(func() {
				if err := w.Set((i*37)%(slots-1), a); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if err := w.Set(slots-1, tail); err != nil {
			t.Fatal(err)
		}
		sum, err := w.Close()
		if err != nil {
			t.Fatal(err)
		}
		finish(t, ses, manifest.File{Filename: "d.img.fidx", Size: slots*chunk - 5, Csum: sum})
		verify(t, s, 1)
	}},
	{"a stream grows", func(t *testing.T, in beginner, s *datastore.Store) {
		ses := start(t, in, vm100)
		w, err := ses.CreateFixed("d.img.fidx", -1, chunk)
		if err != nil {
			t.Fatal(err)
		}
		g := w.Grow
		for i := range 3 {
			if err := g(int64(i+1) * chunk); err != nil {
				t.Fatal(err)
			}
			if err := w.Set(i, put(t, ses, block(i))); err != nil {
				t.Fatal(err)
			}
		}
		if err := g(chunk); err == nil {
			t.Error("a stream shrinks")
		}
		sum, err := w.Close()
		if err != nil {
			t.Fatal(err)
		}
		finish(t, ses, manifest.File{Filename: "d.img.fidx", Size: 3 * chunk, Csum: sum})
		verify(t, s, 1)
	}},
	{"two file archives side by side", func(t *testing.T, in beginner, s *datastore.Store) {
		ses := start(t, in, vm100)
		var ws [2]repo.DynamicWriter
		var ends [2]uint64
		for i := range ws {
			var err error
			if ws[i], err = ses.CreateDynamic(names.Archive(fmt.Sprintf("a%d.pxar.didx", i))); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 1200 {
			data := fmt.Appendf(nil, "content %d", i%40)
			ends[i%2] += uint64(len(data))
			if err := ws[i%2].Add(ends[i%2], put(t, ses, data)); err != nil {
				t.Fatal(err)
			}
		}
		var listed []manifest.File
		for i, w := range ws {
			size, sum, err := w.Close()
			if err != nil || size != ends[i] {
				t.Fatalf("%d, %v, want %d", size, err, ends[i])
			}
			listed = append(listed, manifest.File{Filename: fmt.Sprintf("a%d.pxar.didx", i), Size: size, Csum: sum})
		}
		finish(t, ses, listed...)
		verify(t, s, 1)
	}},
	{"the base and its chunks are known", func(t *testing.T, in beginner, s *datastore.Store) {
		ses := start(t, in, vm100)
		if ses.Previous() != nil {
			t.Fatal("a first backup has a base")
		}
		raw := encode(t, []byte("conf"))
		if err := ses.PutBlob(t.Context(), "vm.conf.blob", raw); err != nil {
			t.Fatal(err)
		}
		finish(t, ses, write(t, ses, "d.img.fidx", block(1), block(2), block(3)[:100]), manifest.File{Filename: "vm.conf.blob", Size: uint64(len(raw)), Csum: digest.Of(raw)})

		next := start(t, in, at(vm100, 1))
		p := next.Previous()
		if p == nil || p.Name() != vm100 || len(p.Manifest().Files) != 2 {
			t.Fatalf("base is %v", p)
		}
		if got, err := p.Blob("vm.conf.blob"); err != nil || !bytes.Equal(got, raw) {
			t.Errorf("blob of the base: %q, %v", got, err)
		}
		if _, err := p.Blob("no.conf.blob"); !errors.Is(err, repo.ErrNotFound) {
			t.Errorf("a blob that the base lacks: %v", err)
		}
		if _, _, err := p.OpenFixed("no.img.fidx"); !errors.Is(err, repo.ErrNotFound) {
			t.Errorf("an index that the base lacks: %v", err)
		}
		x, c, err := p.OpenFixed("d.img.fidx")
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := next.Has(t.Context(), digest.Of(block(2))); !ok || err != nil {
			t.Errorf("a chunk of the base is not known: %v", err)
		}
		w, err := next.CreateFixed("d.img.fidx", int64(x.Size), chunk)
		if err != nil {
			t.Fatal(err)
		}
		for i := range x.Count() {
			d, err := x.Digest(i)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Set(i, d); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		sum, err := w.Close()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.ReadChunk(t.Context(), digest.Of(block(1)), nil); err != nil || !bytes.Equal(got, encode(t, block(1))) {
			t.Errorf("a chunk of the base: %d bytes, %v", len(got), err)
		}
		finish(t, next, manifest.File{Filename: "d.img.fidx", Size: x.Size, Csum: sum})
		verify(t, s, 2)
	}},
	{"what is not finished is not there", func(t *testing.T, in beginner, s *datastore.Store) {
		ses := start(t, in, vm100)
		write(t, ses, "d.img.fidx", block(1))
		if _, err := ses.CreateDynamic("open.didx"); err != nil {
			t.Fatal(err)
		}
		if err := ses.Finish(t.Context(), manifest.New(vm100)); err == nil {
			t.Fatal("finished with an open index")
		}
		if err := errors.Join(ses.Abort(), ses.Abort()); err != nil {
			t.Fatal(err)
		}
		if w, ok := in.(*server); ok {
			if err := w.ended(); err == nil {
				t.Error("the server thinks it was finished")
			}
		}
		if n := visible(t, s); n != 0 {
			t.Fatalf("%d snapshots", n)
		}
		again := start(t, in, vm100) // the same time
		finish(t, again, write(t, again, "d.img.fidx", block(1)))
		if err := again.Abort(); err != nil {
			t.Errorf("abort after finish: %v", err)
		}
		verify(t, s, 1)
		if _, err := again.CreateDynamic("late.didx"); err == nil {
			t.Error("an index after the end")
		}
	}},
	{"what cannot be is refused", func(t *testing.T, in beginner, s *datastore.Store) {
		ses := start(t, in, vm100)
		d := digest.Of([]byte("x"))
		if _, err := ses.CreateFixed("a.didx", 5, chunk); err == nil {
			t.Error("a fixed index with a dynamic name")
		}
		if _, err := ses.CreateDynamic("a.fidx"); err == nil {
			t.Error("a dynamic index with a fixed name")
		}
		if _, err := ses.CreateFixed("a.fidx", 0, chunk); err == nil {
			t.Error("an image of nothing")
		}
		if err := ses.PutBlob(t.Context(), names.Manifest, encode(t, nil)); err == nil {
			t.Error("a manifest as a blob")
		}
		w, err := ses.CreateDynamic("a.didx")
		if err != nil {
			t.Fatal(err)
		}
		for _, end := range []uint64{0, 16<<20 + 1, 1 << 63} {
			if err := w.Add(end, d); err == nil {
				t.Errorf("a chunk that ends at %d", end)
			}
		}
		if err := w.Add(5, digest.Digest{}); err == nil {
			t.Error("a chunk without a name")
		}
		f, err := ses.CreateFixed("b.fidx", 3*chunk, chunk)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range []int{-1, 3} {
			if err := f.Set(i, d); err == nil {
				t.Errorf("slot %d of 3", i)
			}
		}
		if err := f.Set(0, put(t, ses, block(1))); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Close(); err == nil || !strings.Contains(err.Error(), "never set") {
			t.Errorf("an index with holes: %v", err)
		}
		if _, err := f.Close(); err == nil {
			t.Error("closed twice")
		}
		if _, _, err := w.Close(); err == nil || !strings.Contains(err.Error(), "no entries") {
			t.Errorf("an empty index: %v", err)
		}
		if err := ses.Finish(t.Context(), manifest.New(vm100)); err == nil {
			t.Error("finished with indexes that came to nothing")
		}
	}},
	{"a cancelled call says why", func(t *testing.T, in beginner, s *datastore.Store) {
		ses := start(t, in, vm100)
		if _, err := ses.CreateDynamic("a.didx"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("enough")
		cancel(why)
		if err := ses.Finish(ctx, manifest.New(vm100)); err == nil {
			t.Error("finished")
		}
		if _, ok := in.(*server); ok {
			if _, err := ses.Put(ctx, digest.Of(nil), 5, encode(t, nil)); !errors.Is(err, why) {
				t.Errorf("put: %v", err)
			}
		}
		if err := ses.Abort(); err != nil {
			t.Error(err)
		}
	}},
}
