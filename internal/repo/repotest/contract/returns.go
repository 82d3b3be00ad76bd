package contract

import (
	"bytes"
	"errors"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

var returns = []promise{
	{name: "what comes back is as it was", test: func(s *suite) {
		c := Random(s.rng, 20)
		later := c.Changed(s.rng)
		first, second := s.next("100"), s.next("100")
		s.backup(first, c)
		s.backup(second, later)
		s.must(s.SetNotes(s.ctx, first, "old"))
		old, err := s.TakeAway(s.ctx, s, first)
		s.must(err)
		s.must(s.Forget(s.ctx, first))
		r, err := s.Refill(s.ctx)
		s.must(err)
		for d, raw := range old.Chunks {
			has, err := r.Has(s.ctx, d)
			s.must(err)
			if !has {
				_, err = r.Put(s.ctx, d, raw)
				s.must(err)
			}
			if has, err := r.Has(s.ctx, d); !has || err != nil {
				s.Errorf("it was stored and is not there: %v", err)
			}
		}
		s.must(s.BringBack(s.ctx, r, old))
		s.is("twice", s.BringBack(s.ctx, r, old), repo.ErrExists)
		s.must(r.Close())
		s.restores(first, c)
		s.restores(second, later)
		infos, err := s.Snapshots(s.ctx, "", &first.Group)
		if err != nil || len(infos) != 2 || infos[0].Notes != "old" {
			s.Errorf("%+v, %v", infos, err)
		}
	}},
	{name: "nothing comes back without its chunks, or spoilt", test: func(s *suite) {
		n := s.next("100")
		s.backup(n, Random(s.rng, 6))
		old, err := s.TakeAway(s.ctx, s, n)
		s.must(err)
		r, err := s.Refill(s.ctx)
		s.must(err)
		defer r.Close()
		ses, err := r.Begin(s.ctx, repo.Begin{Snapshot: s.next("200")})
		s.must(err)
		index := bytes.Clone(old.Files[ImageName])
		index[4096] ^= 1 // in the digest of the first chunk
		_, _, err = ses.PutIndex(s.ctx, ImageName, bytes.NewReader(index))
		if _, bad := errors.AsType[*repo.CorruptError](err); !bad {
			s.Errorf("an index with another checksum than it says: %v", err)
		}
		s.must(ses.Abort())

		name := s.next("200")
		ses, err = r.Begin(s.ctx, repo.Begin{Snapshot: name})
		s.must(err)
		w, err := ses.CreateFixed(ImageName, ChunkSize, ChunkSize)
		s.must(err)
		s.must(w.Set(0, digest.Of([]byte("nobody has it"))))
		sum, err := w.Close()
		s.must(err)
		m := manifest.New(name)
		s.must(m.Add(manifest.File{Filename: ImageName.String(), CryptMode: manifest.ModeNone, Size: ChunkSize, Csum: sum}))
		s.is("an index of a missing chunk", ses.Finish(s.ctx, m), repo.ErrChunkMissing)
		s.must(ses.Abort())
		_, err = s.Open(s.ctx, name)
		s.is("open", err, repo.ErrNotFound)
	}},
	{name: "a damaged chunk is sent again, and all are whole", test: func(s *suite) {
		c := Random(s.rng, 6)
		first, second := s.next("100"), s.next("100")
		s.backup(first, c)
		s.backup(second, c)
		chunk, err := s.Encode(c.Image[:ChunkSize])
		s.must(err)
		s.Spoil(s.T, chunk)
		s.verify(2)
		ses, err := s.Begin(s.ctx, repo.Begin{Snapshot: s.next("100")})
		s.must(err)
		if ses.Previous() != nil {
			s.Error("a damaged snapshot is a base")
		}
		if has, err := ses.Has(s.ctx, digest.Of(c.Image[:ChunkSize])); has || err != nil {
			s.Errorf("a damaged chunk is sound: %v", err)
		}
		s.must(s.Write(s.ctx, ses, c))
		s.verify(0)
		for _, n := range []names.Snapshot{first, second, ses.Snapshot()} {
			s.restores(n, c)
		}
	}},
	{name: "a damaged chunk comes back, and all are whole", test: func(s *suite) {
		c := Random(s.rng, 6)
		first, second := s.next("100"), s.next("101")
		s.backup(first, c)
		s.backup(second, c)
		old, err := s.TakeAway(s.ctx, s, first)
		s.must(err)
		s.must(s.Forget(s.ctx, first))
		chunk, err := s.Encode(c.Image[:ChunkSize])
		s.must(err)
		s.Spoil(s.T, chunk)
		s.verify(1)
		r, err := s.Refill(s.ctx)
		s.must(err)
		if has, err := r.Has(s.ctx, digest.Of(c.Image[:ChunkSize])); has || err != nil {
			s.Errorf("it is sound: %v", err)
		}
		for d, raw := range old.Chunks {
			_, err := r.Put(s.ctx, d, raw)
			s.must(err)
		}
		s.must(s.BringBack(s.ctx, r, old))
		s.must(r.Close())
		s.verify(0)
		s.restores(first, c)
		s.restores(second, c)
	}},
	{name: "a damaged snapshot is mended", test: func(s *suite) {
		c := Random(s.rng, 6)
		first, second := s.next("100"), s.next("100")
		s.backup(first, c)
		s.must(s.SetNotes(s.ctx, first, "before the upgrade"))
		s.must(s.SetProtected(s.ctx, first, true))
		log, err := s.Encode([]byte("done"))
		s.must(err)
		s.must(s.PutLog(s.ctx, first, log))
		s.backup(second, c)
		chunk, err := s.Encode(c.Image[:ChunkSize])
		s.must(err)
		s.Spoil(s.T, chunk)
		s.verify(2)
		s.must(s.MendAll(s.ctx, s, first, c))
		s.verify(0)
		s.restores(first, c)
		s.restores(second, c)
		infos, err := s.Snapshots(s.ctx, "", &first.Group)
		s.must(err)
		if i := infos[0]; len(infos) != 2 || i.Notes != "before the upgrade" || !i.Protected {
			s.Errorf("%+v", infos)
		}
		snap, err := s.Open(s.ctx, first)
		s.must(err)
		if got, err := snap.Blob(names.ClientLog); err != nil || string(got) != string(log) {
			s.Errorf("the client's log: %q, %v", got, err)
		}
		s.must(snap.Close())
	}},
	{name: "mending takes a copy of the same backup only, and may be given up", test: func(s *suite) {
		c := Random(s.rng, 4)
		n := s.next("100")
		s.is("what is not there", s.MendAll(s.ctx, s, n, c), repo.ErrNotFound)
		s.backup(n, c)
		other := Content{c.Image, []byte("another configuration")}
		if err := s.MendAll(s.ctx, s, n, other); err == nil || !strings.Contains(err.Error(), "not of the same backup") {
			s.Errorf("another content: %v", err)
		}
		s.restores(n, c)
		ses, err := s.Mend(s.ctx, n)
		s.must(err)
		_, err = s.Begin(s.ctx, repo.Begin{Snapshot: s.next("100")})
		s.is("a backup meanwhile", err, repo.ErrLocked)
		_, err = s.WriteAll(s.ctx, ses, Random(s.rng, 4))
		s.must(err)
		s.must(ses.Abort())
		s.restores(n, c)
		s.must(s.MendAll(s.ctx, s, n, c))
		s.restores(n, c)
	}},
	{name: "a collection takes what nobody needs, and nothing else", test: func(s *suite) {
		c := Random(s.rng, 20)
		first, second, other := s.next("100"), s.next("100"), s.next("200")
		s.backup(first, c)
		later := c.Changed(s.rng)
		s.backup(second, later)
		alone := Random(s.rng, 20)
		s.backup(other, alone)
		s.must(s.Forget(s.ctx, first))
		s.must(s.Forget(s.ctx, other))
		ses, err := s.Begin(s.ctx, repo.Begin{Snapshot: s.next("300")})
		s.must(err)
		m, err := s.WriteAll(s.ctx, ses, later)
		s.must(err)
		_, err = s.Sweep(s.T)
		s.must(err)
		s.must(ses.Finish(s.ctx, m))
		st, err := s.Sweep(s.T)
		s.must(err)
		if st.RemovedBytes == 0 && st.PendingBytes == 0 {
			s.Errorf("nothing was removed: %+v", st)
		}
		s.restores(second, later)
		s.restores(ses.Snapshot(), later)
		s.verify(0)
		s.backup(s.next("200"), alone)
		s.restores(s.last("200"), alone)
	}},
}

// verify reads everything back and counts what is damaged.
func (s *suite) verify(want int) {
	s.Helper()
	rep, err := s.Verify(s.ctx, repo.VerifyOptions{})
	s.must(err)
	bad := 0
	for _, v := range rep.Snapshots {
		if len(v.Errors) > 0 {
			bad++
		}
	}
	if bad != want {
		s.Errorf("%d snapshots are damaged, want %d: %+v", bad, want, rep)
	}
}
