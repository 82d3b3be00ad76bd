package amend_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/backup/amend"
	"github.com/holdfast-backup/holdfast/internal/chunker"
	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/fetch"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

const root = names.Archive("root.pxar.didx")

// stream restores a file archive.
func (s *site) stream(snap repo.Snapshot, name names.Archive) []byte {
	s.t.Helper()
	x, err := fetch.OpenDynamic(snap, name, s.key)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = x.Close() }()
	r, err := fetch.NewStream(s.t.Context(), snap, x, 0, -1, 2)
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

// container makes the n-th snapshot, of a disk and a file archive.
func (s *site) container(n int64, d disk, tree []byte) {
	s.t.Helper()
	if err := s.tryContainer(n, d, tree); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) tryContainer(n int64, d disk, tree []byte) (err error) {
	ctx := s.t.Context()
	ses, err := s.r.Begin(ctx, repo.Begin{Snapshot: at(n), Owner: "root@pam"})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ses.Abort())
		}
	}()
	w, err := backup.NewWriter(ses, backup.Options{ChunkSize: chunk, Workers: 2, Key: s.key, CryptMode: s.mode})
	if err != nil {
		return err
	}
	defer w.Close()
	cut, err := chunker.New(chunker.MinAverage)
	if err != nil {
		return err
	}
	if _, err := w.DynamicFrom(ctx, root, cut, bytes.NewReader(tree)); err != nil {
		return err
	}
	if _, err := w.Image(ctx, system, d); err != nil {
		return err
	}
	m := manifest.New(at(n))
	for _, f := range w.Files() {
		if err := m.Add(f); err != nil {
			return err
		}
	}
	if s.key != nil {
		if err := m.Sign(s.key); err != nil {
			return err
		}
	}
	return ses.Finish(ctx, m)
}

func treeOf(seed byte) []byte {
	b := make([]byte, 2<<20)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func TestFileArchivesAreCarriedOver(t *testing.T) {
	sites(t, func(t *testing.T, s *site) {
		sys, tree := filled(1), treeOf(1)
		s.container(0, sys, tree)
		ov := s.over(0, system)
		want := disk(bytes.Clone(sys))
		change(t, ov, want, 3*chunk, []byte("changed"))
		if err := ov.Flush(); err != nil {
			t.Fatal(err)
		}
		check := func(n int64) {
			t.Helper()
			report := s.run(s.plan(0, n, amend.Disk{Name: system, Content: ov}))
			if got := report.Archives[0].Stats; got.Unchanged.Bytes != int64(len(tree)) || got.Read != 0 || got.Done() != int64(len(tree)) {
				t.Errorf("the file archive: %+v", got)
			}
			s.want(n, root, tree)
			s.want(n, system, want)
			s.wantLike(0, n)
		}
		check(1) // the base is the previous snapshot
		s.container(2, sys, append([]byte("inserted"), treeOf(2)...))
		check(3) // it is not, and the previous one has other chunks
		s.container(4, sys, append([]byte("inserted"), tree...))
		check(5) // most are the same
	})
}

// The repository is asked for the chunks that the previous snapshot lacks, and
// for no others. One that is gone ends it.
func TestCarriedOverChunksAreThere(t *testing.T) {
	m := repotest.New()
	s := &site{t, memory{m}, nil, manifest.ModeNone}
	sys, tree := filled(1), treeOf(1)
	s.container(0, sys, tree)
	ov := s.over(0, system)
	m.Reset()
	s.run(s.plan(0, 1, amend.Disk{Name: system, Content: ov}))
	if n := m.Calls(repotest.OpHas) + m.Calls(repotest.OpRead); n != 0 {
		t.Errorf("%d chunks were looked at, nothing has changed", n)
	}
	s.container(2, sys, append([]byte("inserted"), tree...))
	m.Reset()
	s.run(s.plan(0, 3, amend.Disk{Name: system, Content: ov}))
	if n := m.Calls(repotest.OpHas); n < 1 || n > 3 || m.Calls(repotest.OpRead) != 0 {
		t.Errorf("%d chunks were asked for, %d read", n, m.Calls(repotest.OpRead))
	}
	s.container(4, sys, treeOf(2))
	snap, err := m.Open(t.Context(), at(0))
	if err != nil {
		t.Fatal(err)
	}
	x, closer, err := snap.OpenDynamic(root)
	if err != nil {
		t.Fatal(err)
	}
	var last digest.Digest
	if err := x.Each(func(_ int, _, _ int64, d digest.Digest) error { last = d; return nil }); err != nil {
		t.Fatal(err)
	}
	_ = closer.Close()
	delete(m.Chunks, last)
	if _, err := amend.Run(t.Context(), s.r, s.plan(0, 5, amend.Disk{Name: system, Content: ov})); !errors.Is(err, repo.ErrChunkMissing) {
		t.Errorf("err = %v", err)
	}
	if n := m.Snapshots(); n != 5 {
		t.Errorf("%d snapshots", n)
	}
}
