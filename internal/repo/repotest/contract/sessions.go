package contract

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

var sessions = []promise{
	{name: "what was backed up restores", test: func(s *suite) {
		c := Random(s.rng, 30)
		var all []names.Snapshot
		var contents []Content
		for range 4 {
			n := s.next("100")
			s.backup(n, c)
			all, contents = append(all, n), append(contents, c)
			c = c.Changed(s.rng)
		}
		s.Repository = s.Reopen(s.T)
		for i, n := range all {
			s.restores(n, contents[i])
		}
	}},
	{name: "the newest snapshot is the base", test: func(s *suite) {
		c := Random(s.rng, 3)
		first := s.next("100")
		ses, err := s.Begin(s.ctx, repo.Begin{Snapshot: first})
		s.must(err)
		if ses.Previous() != nil || ses.Snapshot() != first {
			s.Error("a first backup has a base")
		}
		s.must(s.Write(s.ctx, ses, c))
		ses, err = s.Begin(s.ctx, repo.Begin{Snapshot: s.next("100")})
		s.must(err)
		if p := ses.Previous(); p == nil || p.Name() != first {
			s.Errorf("base is %v", p)
		}
		if ok, err := ses.Has(s.ctx, digest.Of(c.Image[:ChunkSize])); !ok || err != nil {
			s.Errorf("a chunk of the base is not known: %v", err)
		}
		s.must(ses.Abort())
	}},
	{name: "chunks of other groups are known", test: func(s *suite) {
		c := Random(s.rng, 3)
		s.backup(s.next("100"), c)
		ses, err := s.Begin(s.ctx, repo.Begin{Snapshot: s.next("101")})
		s.must(err)
		if ok, err := ses.Has(s.ctx, digest.Of(c.Image[:ChunkSize])); !ok || err != nil {
			s.Errorf("not known: %v", err)
		}
		raw, err := s.Encode(c.Image[ChunkSize : 2*ChunkSize])
		s.must(err)
		if stored, err := ses.Put(s.ctx, digest.Of(c.Image[ChunkSize:2*ChunkSize]), ChunkSize, raw); stored || err != nil {
			s.Errorf("stored once more: %v, %v", stored, err)
		}
		s.must(s.Write(s.ctx, ses, c))
		s.restores(s.last("101"), c)
	}},
	{name: "a chunk is stored once in a session", test: func(s *suite) {
		ses, err := s.Begin(s.ctx, repo.Begin{Snapshot: s.next("100")})
		s.must(err)
		raw, err := s.Encode([]byte("x"))
		s.must(err)
		d := digest.Of([]byte("x"))
		if ok, err := ses.Has(s.ctx, d); ok || err != nil {
			s.Errorf("it is there: %v", err)
		}
		for _, want := range []bool{true, false} {
			if stored, err := ses.Put(s.ctx, d, 1, raw); stored != want || err != nil {
				s.Errorf("stored %v, want %v; %v", stored, want, err)
			}
		}
		if ok, err := ses.Has(s.ctx, d); !ok || err != nil {
			s.Errorf("it is not there: %v", err)
		}
		s.must(ses.Abort())
	}},
	{name: "many workers store at once", test: func(s *suite) {
		c := Random(s.rng, 200)
		n := s.next("100")
		ses, err := s.Begin(s.ctx, repo.Begin{Snapshot: n})
		s.must(err)
		var work sync.WaitGroup
		for w := range 4 {
			work.Go(func() {
				mine := NewClient(s)
				for i := w; i < 199; i += 3 { // some chunks twice
					if err := mine.Send(s.ctx, ses, c.Image[i*ChunkSize:(i+1)*ChunkSize]); err != nil {
						s.Error(err)
					}
				}
			})
		}
		work.Wait()
		s.must(s.Write(s.ctx, ses, c))
		s.restores(n, c)
	}},
	{name: "a stream grows", test: func(s *suite) {
		n := s.next("100")
		ses, err := s.Begin(s.ctx, repo.Begin{Snapshot: n})
		s.must(err)
		w, err := ses.CreateFixed(ImageName, -1, ChunkSize)
		s.must(err)
		d := digest.Of(make([]byte, ChunkSize))
		s.must(s.Send(s.ctx, ses, make([]byte, ChunkSize)))
		for i := range 3 {
			s.must(w.Grow(int64(i+1) * ChunkSize))
			s.must(w.Set(i, d))
		}
		if w.Grow(ChunkSize) == nil {
			s.Error("it shrinks")
		}
		sum, err := w.Close()
		s.must(err)
		m := manifest.New(n)
		s.must(m.Add(manifest.File{Filename: ImageName.String(), CryptMode: manifest.ModeNone, Size: 3 * ChunkSize, Csum: sum}))
		s.must(ses.Finish(s.ctx, m))
		snap, err := s.Open(s.ctx, n)
		s.must(err)
		defer snap.Close()
		x, closer, err := snap.OpenFixed(ImageName)
		s.must(err)
		defer closer.Close()
		if x.Count() != 3 {
			s.Errorf("%d slots", x.Count())
		}
	}},
	{name: "a session that is aborted leaves nothing", test: func(s *suite) {
		n := s.next("100")
		ses, err := s.Begin(s.ctx, repo.Begin{Snapshot: n})
		s.must(err)
		_, err = s.WriteAll(s.ctx, ses, Random(s.rng, 20))
		s.must(err)
		_, err = ses.CreateDynamic("half.pxar.didx")
		s.must(err)
		s.must(ses.Abort())
		s.must(ses.Abort())
		_, err = s.Open(s.ctx, n)
		s.is("open", err, repo.ErrNotFound)
		groups, err := s.Groups(s.ctx, "")
		if len(groups) > 0 || err != nil {
			s.Errorf("groups %v, %v", groups, err)
		}
		s.backup(s.next("100"), Random(s.rng, 2))
	}},
	{name: "a session is finished once, and whole", test: func(s *suite) {
		n := s.next("100")
		ses, err := s.Begin(s.ctx, repo.Begin{Snapshot: n})
		s.must(err)
		if err := ses.Finish(s.ctx, manifest.New(n)); err == nil || !strings.Contains(err.Error(), "no archive") {
			s.Errorf("an empty one: %v", err)
		}
		c := Random(s.rng, 4)
		m, err := s.WriteAll(s.ctx, ses, c)
		s.must(err)
		w, err := ses.CreateDynamic("half.pxar.didx")
		s.must(err)
		if err := ses.Finish(s.ctx, m); err == nil || !strings.Contains(err.Error(), "still being written") {
			s.Errorf("with an open index: %v", err)
		}
		if _, _, err := w.Close(); err == nil {
			s.Error("an index without entries is complete")
		}
		if err := ses.Finish(s.ctx, m); err == nil || !strings.Contains(err.Error(), "could not be written") {
			s.Errorf("with a spoilt index: %v", err)
		}
		s.must(ses.Abort())
		if err := ses.Finish(s.ctx, m); err == nil || !strings.Contains(err.Error(), "has ended") {
			s.Errorf("after its end: %v", err)
		}
	}},
	{name: "one backup of a group at a time", test: func(s *suite) {
		ses, err := s.Begin(s.ctx, repo.Begin{Snapshot: s.next("100")})
		s.must(err)
		for _, r := range []Repository{s.Repository, s.Reopen(s.T)} {
			_, err := r.Begin(s.ctx, repo.Begin{Snapshot: s.next("100")})
			s.is("a second one", err, repo.ErrLocked)
		}
		s.backup(s.next("101"), Random(s.rng, 2))
		s.must(ses.Abort())
		s.backup(s.next("100"), Random(s.rng, 2))
	}},
	{name: "a snapshot is newer than those that are there", test: func(s *suite) {
		older, n := s.next("100"), s.next("100")
		s.backup(n, Random(s.rng, 2))
		for _, late := range []names.Snapshot{n, older} {
			_, err := s.Begin(s.ctx, repo.Begin{Snapshot: late})
			s.is("one that is not", err, repo.ErrExists)
		}
	}},
	{name: "a namespace is made before", test: func(s *suite) {
		n := s.next("100")
		n.NS = "a"
		_, err := s.Begin(s.ctx, repo.Begin{Snapshot: n})
		s.is("one that is not there", err, repo.ErrNotFound)
		s.must(s.CreateNamespace(s.ctx, "a"))
		c := Random(s.rng, 2)
		s.backup(n, c)
		s.restores(n, c)
	}},
	{name: "a group has one owner", test: func(s *suite) {
		begin := func(owner string, benchmark bool) error {
			ses, err := s.Begin(s.ctx, repo.Begin{Snapshot: s.next("100"), Owner: owner, Benchmark: benchmark})
			if err != nil {
				return err
			}
			return s.Write(s.ctx, ses, Random(s.rng, 2))
		}
		s.must(begin("ann@pbs!token", false))
		s.is("somebody else", begin("bob@pbs", false), repo.ErrOwner)
		s.must(begin("ann@pbs", false))
		s.must(begin("", false))
		s.must(begin("bob@pbs", true))
		id, err := s.Owner(s.ctx, "", names.Group{Type: names.VM, ID: "100"})
		if err != nil || id.String() != "ann@pbs!token" {
			s.Errorf("owner %s, %v", id, err)
		}
	}},
	{name: "names that a session takes", test: func(s *suite) {
		ses, err := s.Begin(s.ctx, repo.Begin{Snapshot: s.next("100")})
		s.must(err)
		raw, err := s.Encode([]byte("x"))
		s.must(err)
		for _, name := range []names.Archive{names.Manifest, "a.img.fidx"} {
			if ses.PutBlob(s.ctx, name, raw) == nil {
				s.Errorf("a blob %s", name)
			}
		}
		if ses.PutBlob(s.ctx, ConfName, []byte("no blob")) == nil {
			s.Error("bytes that are no blob")
		}
		if _, err := ses.CreateFixed(TreeName, 5, ChunkSize); err == nil {
			s.Error("a fixed index of a tree")
		}
		if _, err := ses.CreateDynamic(ImageName); err == nil {
			s.Error("a dynamic index of an image")
		}
		if _, err := ses.CreateFixed(ImageName, 5, 1000); err == nil {
			s.Error("chunks of 1000 bytes")
		}
		_, err = ses.CreateDynamic(TreeName)
		s.must(err)
		_, err = ses.CreateDynamic(TreeName)
		s.is("a name twice", err, repo.ErrExists)
		for _, plain := range []int{0, -1, 1 << 30} {
			if _, err := ses.Put(s.ctx, digest.Of([]byte("x")), plain, raw); err == nil {
				s.Errorf("a chunk of %d bytes", plain)
			}
		}
		s.must(ses.Abort())
	}},
	{name: "what is cancelled leaves nothing", test: func(s *suite) {
		ctx, cancel := context.WithCancelCause(s.ctx)
		why := errors.New("enough")
		n := s.next("100")
		ses, err := s.Begin(ctx, repo.Begin{Snapshot: n})
		s.must(err)
		m, err := s.WriteAll(ctx, ses, Random(s.rng, 5))
		s.must(err)
		cancel(why)
		if err := ses.Finish(ctx, m); !errors.Is(err, why) && !errors.Is(err, context.Canceled) {
			s.Errorf("finish: %v", err)
		}
		s.must(ses.Abort())
		_, err = s.Open(s.ctx, n)
		s.is("open", err, repo.ErrNotFound)
	}},
	{name: "a backup that runs is listed as such", test: func(s *suite) {
		n := s.next("100")
		ses, err := s.Begin(s.ctx, repo.Begin{Snapshot: n})
		s.must(err)
		infos, err := s.Snapshots(s.ctx, "", &n.Group)
		if err != nil || len(infos) != 1 || infos[0].Finished || infos[0].Snapshot != n {
			s.Errorf("%+v, %v", infos, err)
		}
		_, err = s.Open(s.ctx, n)
		s.is("open", err, repo.ErrLocked)
		s.is("forget", s.Forget(s.ctx, n), repo.ErrLocked)
		s.must(s.Write(s.ctx, ses, Random(s.rng, 2)))
		infos, err = s.Snapshots(s.ctx, "", &n.Group)
		if err != nil || len(infos) != 1 || !infos[0].Finished {
			s.Errorf("%+v, %v", infos, err)
		}
	}},
	{name: "the manifest says what was sent", test: func(s *suite) {
		n := s.next("100")
		c := Random(s.rng, 4)
		s.backup(n, c)
		snap, err := s.Open(s.ctx, n)
		s.must(err)
		defer snap.Close()
		st := snap.Manifest().UploadStats()
		if st == nil || st.Count == 0 || st.Size < uint64(len(c.Image)) || st.CompressedSize < st.Size {
			s.Errorf("%+v", st)
		}
		raw, err := snap.Blob(ConfName)
		s.must(err)
		if want, _ := s.Encode(c.Conf); !bytes.Equal(raw, want) {
			s.Error("another blob")
		}
		_, err = snap.Blob("no.conf.blob")
		s.is("a blob that is not there", err, repo.ErrNotFound)
		_, _, err = snap.OpenFixed("no.img.fidx")
		s.is("an image that is not there", err, repo.ErrNotFound)
		_, err = snap.ReadChunk(s.ctx, digest.Of([]byte("no chunk")), nil)
		s.is("a chunk that is not there", err, repo.ErrChunkMissing)
	}},
}

// last is the newest snapshot of a guest.
func (s *suite) last(id string) names.Snapshot {
	s.Helper()
	g := names.Group{Type: names.VM, ID: id}
	infos, err := s.Snapshots(s.ctx, "", &g)
	if err == nil && len(infos) == 0 {
		err = fmt.Errorf("%s has none", g)
	}
	s.must(err)
	return infos[len(infos)-1].Snapshot
}
